"""With each template, what it is kept under, and the day on which its subject was last asked for here.

Of templates that are there nothing is known: no time, no consent, and the day is that of this step.
"""

import time

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the two columns."""
    nothing = sa.text("x''" if op.get_bind().dialect.name == "sqlite" else "''::bytea")
    today = sa.text(str(int(time.time() // 86400)))
    op.add_column("templates", sa.Column("terms", sa.LargeBinary, nullable=False, server_default=nothing))
    op.add_column("templates", sa.Column("asked_day", sa.Integer, nullable=False, server_default=today))
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("templates", "asked_day", server_default=None)
