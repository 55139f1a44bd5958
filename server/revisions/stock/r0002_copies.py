"""What finds a copy of a stock: where it was made, the generations of the peers, and what was used together."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables and the column."""
    op.add_column("marks", sa.Column("agreed", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.create_table(
        "peers",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("party", sa.String, nullable=False),
        sa.Column("generation", sa.LargeBinary, nullable=False, unique=True),
    )
    op.create_table(
        "place",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
        sa.Column("machine", sa.LargeBinary, nullable=False),
        sa.Column("file", sa.LargeBinary, nullable=False),
    )
