"""Tables of gallery.db.

A row of `packs` or `templates` says in `added_in` which mutation wrote it and in `removed_in` which
one takes it away. It is visible while added_in <= the gallery's sequence; rows with removed_in <=
sequence have been deleted. Accepting mutation s+1 writes added_in = s+1 and marks removed_in = s+1;
committing it is then `sequence = s+1` and a deletion, and no large row is written twice.

`contents` holds the large values apart, so that listing templates does not read them.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

#: Raised by one with every change of the tables; a store refuses databases with a larger one.
SCHEMA_VERSION = 5
#: Marks the file as ours in `file(1)` and to `Store`: "veil".
APPLICATION_ID = 0x7665696C
#: Marks a file that a rotation is filling, until it is complete: "veir". No matcher serves from one.
ROTATING_ID = 0x76656972

metadata = MetaData()

#: One row: what the ciphertexts of this database belong to.
identity = Table(
    "identity",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True),
    Column("key_id", LargeBinary, nullable=False),
    Column("parameter_set", Text, nullable=False),
)

#: promised, accepted: encoded ballots, empty for none; accepted_chain: NULL while nothing is accepted. origin: the
#: certificate of proposals of what is accepted. unmet: organisations that this one, restored from a copy, has to meet
#: before it takes part again, as letters.
galleries = Table(
    "galleries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("sequence", Integer, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    Column("promised", LargeBinary, nullable=False, server_default=text("x''")),
    Column("accepted", LargeBinary, nullable=False, server_default=text("x''")),
    Column("accepted_chain", LargeBinary),
    Column("origin", LargeBinary),
    Column("unmet", Text, nullable=False, server_default=""),
)

#: Every mutation; one that is accepted and not committed has the number after the gallery's sequence. kind, token and
#: model are those of the body, for questions.
log = Table(
    "log",
    metadata,
    Column("gallery_id", Integer, ForeignKey("galleries.id"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("token", LargeBinary, nullable=False),
    Column("model", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("gallery_id", "token"),
)

#: Of every committed mutation. Apart from its body, which may be large and is written when it is accepted.
certificates = Table(
    "certificates",
    metadata,
    Column("gallery_id", Integer, primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("certificate", LargeBinary, nullable=False),
    ForeignKeyConstraint(["gallery_id", "sequence"], ["log.gallery_id", "log.sequence"]),
)

#: The last signed statement of each other organisation that was kept: what it may not deny.
heard = Table(
    "heard",
    metadata,
    Column("gallery_id", Integer, ForeignKey("galleries.id"), primary_key=True),
    Column("party", Text, primary_key=True),
    Column("statement", LargeBinary, nullable=False),
)

#: What proves that an organisation has lied: two things that it signed and that no honest one signs both.
proofs = Table(
    "proofs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("gallery_id", Integer, ForeignKey("galleries.id"), nullable=False),
    Column("party", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("first", LargeBinary, nullable=False),
    Column("second", LargeBinary, nullable=False),
    UniqueConstraint("gallery_id", "party", "what", "first", "second"),
)

#: checksum: SHA-256 of body, because SQLite does not notice a flipped bit in a value.
contents = Table(
    "contents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("checksum", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

packs = Table(
    "packs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("gallery_id", Integer, nullable=False),
    Column("pack", Integer, nullable=False),
    Column("added_in", Integer, nullable=False),
    Column("removed_in", Integer, index=True),
    Column("content_id", Integer, ForeignKey("contents.id"), nullable=False, unique=True),
    UniqueConstraint("gallery_id", "pack", "added_in"),
    ForeignKeyConstraint(["gallery_id", "added_in"], ["log.gallery_id", "log.sequence"]),
)

#: by_device: whether a device encrypted the record, or the matchers made it. The leaf of a template is computed anew
#: from subject and record where it is needed.
templates = Table(
    "templates",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("gallery_id", Integer, nullable=False),
    Column("pack", Integer, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("subject", Text, nullable=False),
    Column("by_device", Boolean, nullable=False, server_default=text("1")),
    Column("added_in", Integer, nullable=False),
    Column("removed_in", Integer, index=True),
    Column("content_id", Integer, ForeignKey("contents.id"), nullable=False, unique=True),
    UniqueConstraint("gallery_id", "pack", "slot", "added_in"),
    ForeignKeyConstraint(["gallery_id", "added_in"], ["log.gallery_id", "log.sequence"]),
)

#: Slots that were freed while their column stayed in the pack; never occupied again.
retired = Table(
    "retired",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("gallery_id", Integer, nullable=False),
    Column("pack", Integer, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("added_in", Integer, nullable=False),
    UniqueConstraint("gallery_id", "pack", "slot"),
    ForeignKeyConstraint(["gallery_id", "added_in"], ["log.gallery_id", "log.sequence"]),
)
