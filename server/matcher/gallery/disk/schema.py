"""Tables of a matcher's galleries, as the last revision has them: of gallery.db, or of a PostgreSQL database.

A row of `packs` or `templates` says in `added_in` which mutation wrote it and in `removed_in` which
one takes it away. It is visible while added_in <= the gallery's sequence; rows with removed_in <=
sequence have been deleted. Accepting mutation s+1 writes added_in = s+1 and marks removed_in = s+1;
committing it is then `sequence = s+1` and a deletion, and no large row is written twice.

`contents` holds the large values apart, so that listing templates does not read them.
"""

from __future__ import annotations

import time

from sqlalchemy import (
    BigInteger,
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
)

from veilmatch.server.ground.revisions import Revisions

REVISIONS = Revisions.of("gallery")
#: 64 bits everywhere: SQLite has no others.
_Number = Integer().with_variant(BigInteger(), "postgresql")
#: Compared byte by byte everywhere, as Python does, whatever a server is set to.
_Text = Text().with_variant(Text(collation="C"), "postgresql")

metadata = MetaData()

#: One row: what the ciphertexts of this database belong to. rotating: a rotation is filling it, and no matcher serves
#: from it before it is complete.
identity = Table(
    "identity",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True),
    Column("key_id", LargeBinary, nullable=False),
    Column("parameter_set", _Text, nullable=False),
    Column("rotating", Boolean, nullable=False, default=False),
)

#: promised, accepted: encoded ballots, empty for none; accepted_chain: NULL while nothing is accepted. origin: the
#: certificate of proposals of what is accepted. unmet: organisations that this one, restored from a copy, has to meet
#: before it takes part again, as letters.
galleries = Table(
    "galleries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", _Text, nullable=False, unique=True),
    Column("sequence", _Number, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    Column("promised", LargeBinary, nullable=False, default=b""),
    Column("accepted", LargeBinary, nullable=False, default=b""),
    Column("accepted_chain", LargeBinary),
    Column("origin", LargeBinary),
    Column("unmet", _Text, nullable=False, default=""),
)

#: Every mutation; one that is accepted and not committed has the number after the gallery's sequence. kind, token and
#: model are those of the body, for questions.
log = Table(
    "log",
    metadata,
    Column("gallery_id", Integer, ForeignKey("galleries.id"), primary_key=True),
    Column("sequence", _Number, primary_key=True),
    Column("kind", _Text, nullable=False),
    Column("token", LargeBinary, nullable=False),
    Column("model", _Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("gallery_id", "token"),
)

#: Of every committed mutation. Apart from its body, which may be large and is written when it is accepted.
certificates = Table(
    "certificates",
    metadata,
    Column("gallery_id", Integer, primary_key=True),
    Column("sequence", _Number, primary_key=True),
    Column("certificate", LargeBinary, nullable=False),
    ForeignKeyConstraint(["gallery_id", "sequence"], ["log.gallery_id", "log.sequence"]),
)

#: The last signed statement of each other organisation that was kept: what it may not deny.
heard = Table(
    "heard",
    metadata,
    Column("gallery_id", Integer, ForeignKey("galleries.id"), primary_key=True),
    Column("party", _Text, primary_key=True),
    Column("statement", LargeBinary, nullable=False),
)

#: What proves that an organisation has lied: two things that it signed and that no honest one signs both.
proofs = Table(
    "proofs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("gallery_id", Integer, ForeignKey("galleries.id"), nullable=False),
    Column("party", _Text, nullable=False),
    Column("what", _Text, nullable=False),
    Column("first", LargeBinary, nullable=False),
    Column("second", LargeBinary, nullable=False),
    UniqueConstraint("gallery_id", "party", "what", "first", "second"),
)

#: checksum: SHA-256 of body, because SQLite does not notice a flipped bit in a value.
contents = Table(
    "contents",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("checksum", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

packs = Table(
    "packs",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("gallery_id", Integer, nullable=False),
    Column("pack", Integer, nullable=False),
    Column("added_in", _Number, nullable=False),
    Column("removed_in", _Number, index=True),
    Column("content_id", _Number, ForeignKey("contents.id"), nullable=False, unique=True),
    UniqueConstraint("gallery_id", "pack", "added_in"),
    ForeignKeyConstraint(["gallery_id", "added_in"], ["log.gallery_id", "log.sequence"]),
)

#: by_device: whether a device encrypted the record, or the matchers made it. terms: what it is kept under, see
#: crypto/terms.py. asked_day: the last day (Unix time / 86400) on which the subject was asked for here, or the day on
#: which the row came; this organisation's own, and not agreed on. The leaf of a template is computed anew from subject,
#: record and terms where it is needed.
templates = Table(
    "templates",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("gallery_id", Integer, nullable=False),
    Column("pack", Integer, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("subject", _Text, nullable=False),
    Column("by_device", Boolean, nullable=False, default=True),
    Column("terms", LargeBinary, nullable=False, default=b""),
    Column("asked_day", Integer, nullable=False, default=lambda: int(time.time() // 86400)),
    Column("added_in", _Number, nullable=False),
    Column("removed_in", _Number, index=True),
    Column("content_id", _Number, ForeignKey("contents.id"), nullable=False, unique=True),
    UniqueConstraint("gallery_id", "pack", "slot", "added_in"),
    ForeignKeyConstraint(["gallery_id", "added_in"], ["log.gallery_id", "log.sequence"]),
)

#: Slots that were freed while their column stayed in the pack; never occupied again.
retired = Table(
    "retired",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("gallery_id", Integer, nullable=False),
    Column("pack", Integer, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("added_in", _Number, nullable=False),
    UniqueConstraint("gallery_id", "pack", "slot"),
    ForeignKeyConstraint(["gallery_id", "added_in"], ["log.gallery_id", "log.sequence"]),
)
