"""What a key holder has to remember of the refresh in hand, beside the keys: `refresh.db` of its data directory.

Which refresh it is and who leads it, whether the next key is known to fit, whether it was withdrawn, the leader's
decision once that is known, and whether the operator has asked to go back. Written before what depends on it: the
record before the next key file, that it is ready before the leader is told so, the decision before a key file is
renamed and before anybody is told of it. It goes with the last of the two files beside the key.

Which key is in use is not in it: that is the key file's to say.

Nobody else writes it while the daemon runs (transport/daemon.py `sole_owner`), so what is in it is known without
reading: it is looked at twice a second, as long as the daemon lives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from veilmatch.crypto.errors import StorageError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.ground.database import open_database
from veilmatch.server.ground.revisions import Revisions
from veilmatch.server.keyholder.peers import party_name

_REVISIONS = Revisions.of("refresh")
_metadata = MetaData()
_in_hand = Table(
    "in_hand",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("refresh_id", LargeBinary, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("leader", String),
    Column("ready", Boolean, nullable=False),
    Column("decision", LargeBinary, nullable=False),
    Column("going_back", Boolean, nullable=False),
    Column("without", String),
)
_ONLY = 1


@dataclass(frozen=True, slots=True)
class InHand:
    """The refresh in hand. epoch: the one that it makes.

    ready: the next key fits, and is used once the leader has decided so. decision: 32 bytes, empty if not known here.
    refresh_id is empty and leader None if another storage than this knew them. without: the peer whose word does not
    count for going back.
    """

    refresh_id: bytes
    epoch: int
    leader: Party | None
    ready: bool = False
    decision: bytes = b""
    going_back: bool = False
    without: Party | None = None


class Record:
    """The refresh that one key holder has in hand, if it has one. Blocks; every change is durable when it returns.

    Every method raises StorageError if the record cannot be read or written.
    """

    def __init__(self, data_dir: Path, party: Party) -> None:
        self._engine = open_database(data_dir / "refresh.db", _metadata, _REVISIONS)
        self._party: Party = party
        #: What the database holds. Not known before it was read, nor after a change that may or may not be on disk.
        self._found: InHand | None = None
        self._is_known = False

    def read(self) -> InHand | None:
        """Return the refresh in hand."""
        if not self._is_known:
            with self._using() as connection:
                row = connection.execute(select(_in_hand)).one_or_none()
            self._know(None if row is None else _in_hand_of(row))
        return self._found

    def put(self, found: InHand) -> None:
        """Have this refresh in hand, in place of whatever was."""
        values = {"id": _ONLY} | {name: getattr(found, name) for name in InHand.__slots__}
        statement = insert(_in_hand).values(values)
        with self._changing() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))
        self._know(found)

    def make_ready(self) -> None:
        """Note that the next key fits."""
        self._change(ready=True)

    def withdraw(self) -> None:
        """Note that the leader's decision alone is not to bring the next key into use any more."""
        self._change(ready=False)

    def decide(self, decision: bytes) -> None:
        """Note the leader's decision to use the next keys."""
        self._change(decision=decision)

    def stay(self) -> None:
        """Note that this holder is not to go back after all."""
        self._change(going_back=False, without=None)

    def forget(self) -> None:
        """Have no refresh in hand."""
        with self._changing() as connection:
            connection.execute(delete(_in_hand))
        self._know(None)

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def _change(self, **values: Any) -> None:
        before = self.read()
        with self._changing() as connection:
            connection.execute(update(_in_hand).values(values))
        self._know(None if before is None else replace(before, **values))

    def _know(self, found: InHand | None) -> None:
        self._found, self._is_known = found, True

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        self._is_known = False
        with self._using() as connection:
            yield connection

    @contextmanager
    def _using(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except StorageError as error:
            raise StorageError(
                "the record of the refresh cannot be read or written",
                party=party_name(self._party), needed="a database that can be written",
                available=error.got,
            ) from None  # fmt: skip


def _in_hand_of(row: Any) -> InHand:
    return InHand(
        bytes(row.refresh_id), row.epoch, _party(row.leader), row.ready, bytes(row.decision), row.going_back,
        _party(row.without),
    )  # fmt: skip


def _party(letter: str | None) -> Party | None:
    return next((party for party in PARTIES if party == letter), None)
