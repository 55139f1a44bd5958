"""The ledger as it was before there were revisions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make what is not there."""
    op.create_table(
        "nonces",
        sa.Column("nonce", sa.LargeBinary, primary_key=True),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_nonces_expires_at_ms", "nonces", ["expires_at_ms"], if_not_exists=True)
    op.create_table(
        "forgotten",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("before_ms", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "used",
        sa.Column("scope", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("measure", sa.String, primary_key=True),
        sa.Column("window", sa.String, primary_key=True),
        sa.Column("part", sa.BigInteger, primary_key=True),
        sa.Column("amount", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "clock",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("latest_ms", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "carried_over",
        sa.Column("file", sa.String, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        if_not_exists=True,
    )
