"""Galleries whose changes two organisations certify, as they were before there were revisions.

Earlier versions have no certificates: `veilmatch move` makes this one of them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = None

#: 64 bits everywhere: SQLite has no others.
Number = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
#: Compared byte by byte everywhere.
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make what is not there."""
    nothing = sa.text("x''" if op.get_bind().dialect.name == "sqlite" else "''::bytea")
    true = sa.text("1" if op.get_bind().dialect.name == "sqlite" else "true")
    op.create_table(
        "identity",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
        sa.Column("key_id", sa.LargeBinary, nullable=False),
        sa.Column("parameter_set", Text, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "galleries",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", Text, nullable=False, unique=True),
        sa.Column("sequence", Number, nullable=False),
        sa.Column("chain", sa.LargeBinary, nullable=False),
        sa.Column("promised", sa.LargeBinary, nullable=False, server_default=nothing),
        sa.Column("accepted", sa.LargeBinary, nullable=False, server_default=nothing),
        sa.Column("accepted_chain", sa.LargeBinary),
        sa.Column("origin", sa.LargeBinary),
        sa.Column("unmet", Text, nullable=False, server_default=""),
        if_not_exists=True,
    )
    op.create_table(
        "log",
        sa.Column("gallery_id", sa.Integer, sa.ForeignKey("galleries.id"), primary_key=True),
        sa.Column("sequence", Number, primary_key=True),
        sa.Column("kind", Text, nullable=False),
        sa.Column("token", sa.LargeBinary, nullable=False),
        sa.Column("model", Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("gallery_id", "token"),
        if_not_exists=True,
    )
    op.create_table(
        "certificates",
        sa.Column("gallery_id", sa.Integer, primary_key=True),
        sa.Column("sequence", Number, primary_key=True),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["gallery_id", "sequence"], ["log.gallery_id", "log.sequence"]),
        if_not_exists=True,
    )
    op.create_table(
        "heard",
        sa.Column("gallery_id", sa.Integer, sa.ForeignKey("galleries.id"), primary_key=True),
        sa.Column("party", Text, primary_key=True),
        sa.Column("statement", sa.LargeBinary, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "proofs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("gallery_id", sa.Integer, sa.ForeignKey("galleries.id"), nullable=False),
        sa.Column("party", Text, nullable=False),
        sa.Column("what", Text, nullable=False),
        sa.Column("first", sa.LargeBinary, nullable=False),
        sa.Column("second", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("gallery_id", "party", "what", "first", "second"),
        if_not_exists=True,
    )
    op.create_table(
        "contents",
        sa.Column("id", Number, primary_key=True),
        sa.Column("checksum", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "packs",
        sa.Column("id", Number, primary_key=True),
        sa.Column("gallery_id", sa.Integer, nullable=False),
        sa.Column("pack", sa.Integer, nullable=False),
        sa.Column("added_in", Number, nullable=False),
        sa.Column("removed_in", Number),
        sa.Column("content_id", Number, sa.ForeignKey("contents.id"), nullable=False, unique=True),
        sa.UniqueConstraint("gallery_id", "pack", "added_in"),
        sa.ForeignKeyConstraint(["gallery_id", "added_in"], ["log.gallery_id", "log.sequence"]),
        if_not_exists=True,
    )
    op.create_table(
        "templates",
        sa.Column("id", Number, primary_key=True),
        sa.Column("gallery_id", sa.Integer, nullable=False),
        sa.Column("pack", sa.Integer, nullable=False),
        sa.Column("slot", sa.Integer, nullable=False),
        sa.Column("subject", Text, nullable=False),
        sa.Column("by_device", sa.Boolean, nullable=False, server_default=true),
        sa.Column("added_in", Number, nullable=False),
        sa.Column("removed_in", Number),
        sa.Column("content_id", Number, sa.ForeignKey("contents.id"), nullable=False, unique=True),
        sa.UniqueConstraint("gallery_id", "pack", "slot", "added_in"),
        sa.ForeignKeyConstraint(["gallery_id", "added_in"], ["log.gallery_id", "log.sequence"]),
        if_not_exists=True,
    )
    for table in ("packs", "templates"):
        op.create_index(f"ix_{table}_removed_in", table, ["removed_in"], if_not_exists=True)
    op.create_table(
        "retired",
        sa.Column("id", Number, primary_key=True),
        sa.Column("gallery_id", sa.Integer, nullable=False),
        sa.Column("pack", sa.Integer, nullable=False),
        sa.Column("slot", sa.Integer, nullable=False),
        sa.Column("added_in", Number, nullable=False),
        sa.UniqueConstraint("gallery_id", "pack", "slot"),
        sa.ForeignKeyConstraint(["gallery_id", "added_in"], ["log.gallery_id", "log.sequence"]),
        if_not_exists=True,
    )
