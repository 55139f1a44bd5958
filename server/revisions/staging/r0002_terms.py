"""What a template is kept under comes with it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the column."""
    op.add_column("templates", sa.Column("terms", sa.LargeBinary, nullable=False, server_default=sa.text("x''")))
