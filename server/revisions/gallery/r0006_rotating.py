"""Whether a rotation is filling a database stands in a table, and no longer in the head of the file.

A PostgreSQL database has no such head.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

#: Of files: "veil", and "veir" while a rotation was filling one.
_OURS, _ROTATING = 0x7665696C, 0x76656972


def upgrade() -> None:
    """Move the mark."""
    connection = op.get_bind()
    is_file = connection.dialect.name == "sqlite"
    column = sa.Column("rotating", sa.Boolean, nullable=False, server_default=sa.text("0" if is_file else "false"))
    op.add_column("identity", column)
    if is_file and connection.exec_driver_sql("PRAGMA application_id").scalar() == _ROTATING:
        connection.exec_driver_sql("UPDATE identity SET rotating = 1")
        connection.exec_driver_sql(f"PRAGMA application_id = {_OURS}")
