"""The pace of refreshes as it was kept before there were revisions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make what is not there."""
    op.create_table(
        "clock",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("latest_ms", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "begun",
        sa.Column("refresh_id", sa.LargeBinary, primary_key=True),
        sa.Column("leader", sa.String, nullable=False),
        sa.Column("begun_ms", sa.BigInteger, nullable=False),
        sa.Column("used", sa.Boolean, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_begun_begun_ms", "begun", ["begun_ms"], if_not_exists=True)
