"""Tables of stock.db, as the last revision has them."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, LargeBinary, MetaData, String, Table

from veilmatch.server.ground.revisions import Revisions

REVISIONS = Revisions.of("stock")

metadata = MetaData()
generation = Table("generation", metadata, Column("value", LargeBinary, primary_key=True))
#: mark: everything below counts as used. agreed: everything below the peer has marked as used as well, as far as it was
#: noted: it moves with the mark only.
marks = Table(
    "marks",
    metadata,
    Column("stock", LargeBinary, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("mark", BigInteger, nullable=False),
    Column("agreed", BigInteger, nullable=False, default=0),
)
current = Table(
    "current", metadata, Column("pair", String, primary_key=True), Column("stock", LargeBinary, nullable=False)
)
#: Numbers below it are checked no more, whatever has become of the check.
tried = Table(
    "tried",
    metadata,
    Column("stock", LargeBinary, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("number", BigInteger, nullable=False),
)
blocks = Table(
    "checked_blocks",
    metadata,
    Column("stock", LargeBinary, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)
#: Every generation that a peer has come with; the one with the highest number is the one that it has.
peers = Table(
    "peers",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("party", String, nullable=False),
    Column("generation", LargeBinary, nullable=False, unique=True),
)
#: One row: where this file was made. See place.py.
place = Table(
    "place",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True),
    Column("machine", LargeBinary, nullable=False),
    Column("file", LargeBinary, nullable=False),
)
