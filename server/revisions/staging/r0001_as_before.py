"""What is staged of a gallery, as it was before there were revisions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make what is not there."""
    op.create_table(
        "base",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("scope", sa.LargeBinary, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("chain", sa.LargeBinary, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "log",
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("chain", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "packs",
        sa.Column("pack", sa.Integer, primary_key=True),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
        sa.Column("added_in", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary),
        if_not_exists=True,
    )
    op.create_table(
        "templates",
        sa.Column("pack", sa.Integer, primary_key=True),
        sa.Column("slot", sa.Integer, primary_key=True),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
        sa.Column("added_in", sa.Integer, nullable=False),
        sa.Column("subject", sa.Text),
        sa.Column("data", sa.LargeBinary),
        if_not_exists=True,
    )
    for table, place in (("packs", ["pack"]), ("templates", ["pack", "slot"])):
        missing = sa.text("data IS NULL")
        op.create_index(f"{table}_by_leaf", table, ["leaf"], if_not_exists=True)
        op.create_index(f"{table}_missing", table, place, sqlite_where=missing, if_not_exists=True)
