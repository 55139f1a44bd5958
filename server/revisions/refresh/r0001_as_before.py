"""The record of a refresh as it was before there were revisions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make what is not there."""
    op.create_table(
        "in_hand",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("refresh_id", sa.LargeBinary, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("leader", sa.String),
        sa.Column("ready", sa.Boolean, nullable=False),
        sa.Column("decision", sa.LargeBinary, nullable=False),
        sa.Column("going_back", sa.Boolean, nullable=False),
        sa.Column("without", sa.String),
        if_not_exists=True,
    )
