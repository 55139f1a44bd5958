"""The stock as it was before there were revisions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make what is not there."""
    op.create_table("generation", sa.Column("value", sa.LargeBinary, primary_key=True), if_not_exists=True)
    op.create_table(
        "marks",
        sa.Column("stock", sa.LargeBinary, primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("mark", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "current",
        sa.Column("pair", sa.String, primary_key=True),
        sa.Column("stock", sa.LargeBinary, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "tried",
        sa.Column("stock", sa.LargeBinary, primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "checked_blocks",
        sa.Column("stock", sa.LargeBinary, primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        if_not_exists=True,
    )
