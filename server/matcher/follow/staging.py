"""What a matcher has received of the changes that it lacks, on disk, until all of it is there.

    staging = Staging.open(file, state, parameters, signers)
    staging.add_changes(changes)               # in order; chain, certificates and bodies are checked
    wanted = staging.missing(count)            # packs and templates that the log names and that are not here yet
    staging.take_packs([(number, data)])        # the leaf decides whether it is what the log names
    gallery.apply(staging.changes(), staging)  # contents by leaf
    staging.discard()

A file of its own for each gallery, so that what is in service is not touched. It holds the log after `base`, the state
that the gallery had, and of contents those that are there at the end of that log: what a later change overwrites or
erases is forgotten as soon as that change is here. So whoever is far behind takes a snapshot by the same steps, whose
every content is vouched for by a body with a certificate. Whatever whoever sends it does, nothing comes in here
that two organisations did not sign.

Memory: one body, whatever the size of the gallery. A process that was killed goes on from what it had written.
Methods block; one thread at a time. All raise StorageError if the file cannot be used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import IntegrityError, VeilmatchError
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.certificates import Certificate, Signers
from veilmatch.server.matcher.follow.staging_file import StagingFile, metadata
from veilmatch.server.matcher.follow.staging_file import base as _base
from veilmatch.server.matcher.follow.staging_file import log as _log
from veilmatch.server.matcher.follow.staging_file import packs as _packs
from veilmatch.server.matcher.follow.staging_file import templates as _templates
from veilmatch.server.matcher.gallery.body import Body, digest_of, pack_leaf, template_leaf
from veilmatch.server.matcher.gallery.changes import Change, Content

_Place = tuple[int, int]

#: As text: each is done for every content, and to put a statement together takes longer than to execute it.
_TAKE_PACK = "UPDATE packs SET data = ? WHERE pack = ? AND leaf = ?"
_TAKE_TEMPLATE = "UPDATE templates SET subject = ?, data = ?, terms = ? WHERE pack = ? AND slot = ? AND leaf = ?"
_GET_PACK = "SELECT '', data, x'' FROM packs WHERE leaf = ? AND data IS NOT NULL LIMIT 1"
_GET_TEMPLATE = "SELECT subject, data, terms FROM templates WHERE leaf = ? AND data IS NOT NULL LIMIT 1"


class Wanted(NamedTuple):
    """Contents that are missing: numbers of packs, and (pack, slot) of templates, ascending."""

    packs: list[int]
    templates: list[_Place]


class Staging:
    """See the module; made by `open`. `base`: number of the last change before what is here.

    `sequence`, `chain`: of the last change that is here, or of the base.
    """

    def __init__(self, file: StagingFile, engine: Engine, parameters: ParameterSet, signers: Signers) -> None:
        self._file = file
        self._engine = engine
        self._scope = file.scope
        self._parameters = parameters
        self._signers = signers
        self.base = self.sequence = 0
        self.chain = b""
        #: One for all contents, which are read one after the other while a gallery is locked.
        self._reader: Connection | None = None

    @staticmethod
    def open(file: StagingFile, state: GalleryState, parameters: ParameterSet, signers: Signers) -> Staging:
        """Return what is staged for a gallery in this state: what is there from before, if it goes with it, or nothing.

        What is there from before is checked anew, chain and certificates: it may have lain there for long.
        """
        staging = Staging(file, file.opened(), parameters, signers)
        try:
            if not staging._resume(state):
                staging._begin(state)
        except VeilmatchError:
            staging.close()
            raise
        return staging

    def close(self) -> None:
        """Close the file; what is in it stays."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._file.close()

    def discard(self) -> None:
        """Overwrite what is in the file, as erased records of a gallery are, and remove it."""
        self.close()
        with self._engine.begin() as connection:
            for table in metadata.sorted_tables:
                connection.execute(delete(table))
        with self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        self._file.remove()

    # -- filling ------------------------------------------------------------------------------

    def add_changes(self, changes: Iterable[Change]) -> None:
        """Take the next changes of the log, in one transaction.

        Raises IntegrityError or ProtocolError, and changes nothing, unless numbers and bodies continue the chain and
        two organisations have signed that of each.
        """
        sequence, chain = self.sequence, self.chain
        with self._engine.begin() as connection:
            for change in changes:
                chain = self._checked(change, sequence, chain)
                sequence = change.sequence
                body = Body.decode(change.body)
                body.check(self._parameters)
                values = {"sequence": sequence, "chain": chain, "body": change.body}
                connection.execute(insert(_log).values(**values, certificate=change.certificate))
                self._name(connection, sequence, body)
        self.sequence, self.chain = sequence, chain

    def take_packs(self, packs: Iterable[tuple[int, bytes]]) -> int:
        """Keep packs (number, content) that are what the log names; return how many were not, and are not kept."""
        others = 0
        with self._engine.begin() as connection:
            for number, data in packs:
                done = connection.exec_driver_sql(_TAKE_PACK, (data, number, pack_leaf(data)))
                others += not done.rowcount
        return others

    def take_templates(self, templates: Iterable[tuple[_Place, str, bytes, bytes]]) -> int:
        """The same for templates: (pack, slot), subject, record, encoded terms."""
        others = 0
        with self._engine.begin() as connection:
            for (pack, slot), subject, data, terms in templates:
                values = subject, data, terms, pack, slot, template_leaf(subject, data, terms)
                others += not connection.exec_driver_sql(_TAKE_TEMPLATE, values).rowcount
        return others

    # -- questions ----------------------------------------------------------------------------

    def missing(self, packs: int, templates: int) -> Wanted:
        """Return up to so many packs and, if no pack is missing, up to so many templates that are not here yet."""
        with self._engine.connect() as connection:
            numbers = list(
                connection.scalars(
                    select(_packs.c.pack).where(_packs.c.data.is_(None)).order_by(_packs.c.pack).limit(packs)
                )
            )
            if numbers:
                return Wanted(numbers, [])
            t = _templates.c
            query = select(t.pack, t.slot).where(t.data.is_(None)).order_by(t.pack, t.slot).limit(templates)
            return Wanted([], [(row.pack, row.slot) for row in connection.execute(query)])

    def counts(self) -> tuple[int, int]:
        """Return how many contents the log names that are there at its end, and how many of them are here."""
        named = here = 0
        with self._engine.connect() as connection:
            for table in (_packs, _templates):
                row = connection.execute(select(func.count(), func.count(table.c.data)).select_from(table)).one()
                named, here = named + row[0], here + row[1]
        return named, here

    def get(self, leaf: bytes, /) -> Content | None:
        """Return the content with this leaf that is here, or None; see `changes.Contents`."""
        if self._reader is None:
            self._reader = self._engine.connect()
        for statement in (_GET_TEMPLATE, _GET_PACK):
            row = self._reader.exec_driver_sql(statement, (leaf,)).first()
            if row is not None:
                return Content(*row)
        return None

    def changes(self) -> StagedChanges:
        """Return the log that is here, read as it is asked for."""
        with self._engine.connect() as connection:
            base = connection.execute(select(_base.c.sequence)).scalar_one()
        return StagedChanges(self._engine, base, self.sequence)

    def rebase(self, state: GalleryState) -> bool:
        """Forget what the gallery, which is in `state`, has by now; return whether the rest goes on from there.

        If not, because its history is another one, or goes further, nothing is changed.
        """
        with self._engine.begin() as connection:
            base = connection.execute(select(_base)).one()
            if (base.sequence, base.chain) == (state.sequence, state.chain):
                self.base = state.sequence
                return True
            there = connection.scalar(select(_log.c.chain).where(_log.c.sequence == state.sequence))
            if there != state.chain:
                return False
            connection.execute(delete(_log).where(_log.c.sequence <= state.sequence))
            for table in (_packs, _templates):
                connection.execute(delete(table).where(table.c.added_in <= state.sequence))
            connection.execute(update(_base).values(sequence=state.sequence, chain=state.chain))
        self.base = state.sequence
        return True

    # -- the file -----------------------------------------------------------------------------

    def _begin(self, state: GalleryState) -> None:
        with self._engine.begin() as connection:
            for table in metadata.sorted_tables:
                connection.execute(delete(table))
            values = {"id": 1, "scope": self._scope_digest(), "sequence": state.sequence, "chain": state.chain}
            connection.execute(insert(_base).values(**values))
        self.base, self.sequence, self.chain = state.sequence, state.sequence, state.chain

    def _resume(self, state: GalleryState) -> bool:
        """Return whether what is in the file goes on from `state`, and is what it was when it was written."""
        with self._engine.connect() as connection:
            base = connection.execute(select(_base)).one_or_none()
        if base is None or base.scope != self._scope_digest() or not self.rebase(state):
            return False
        self.sequence, self.chain = state.sequence, state.chain
        try:
            for change in self._entries():
                self.chain = self._checked(change, self.sequence, self.chain)
                self.sequence = change.sequence
        except IntegrityError:
            return False
        return True

    def _entries(self) -> Iterator[Change]:
        """Yield all that is in the log, in order, whatever its numbers are."""
        query = select(_log.c.sequence, _log.c.body, _log.c.certificate).order_by(_log.c.sequence)
        with self._engine.connect() as connection:
            for row in connection.execution_options(yield_per=1).execute(query):
                yield Change(*row)

    def _checked(self, change: Change, sequence: int, chain: bytes) -> bytes:
        """Return the chain value after a change that follows on `sequence` and `chain`. Raises IntegrityError."""
        if change.sequence != sequence + 1:
            raise IntegrityError("a change is missing, or there twice", got=change.sequence, expected=sequence + 1)
        chain = next_chain(chain, change.sequence, digest_of(change.body))
        certificate = Certificate.decode(change.certificate)
        if (certificate.vote.sequence, certificate.vote.chain) != (change.sequence, chain):
            raise IntegrityError("the certificate of a change is that of another one", got=change.sequence)
        certificate.check(self._scope, self._signers)
        return chain

    def _name(self, connection: Connection, sequence: int, body: Body) -> None:
        """Let what a change brings be wanted, and what it takes away not be wanted any more."""
        for pack, slot in body.removed:
            connection.execute(delete(_templates).where(_templates.c.pack == pack, _templates.c.slot == slot))
        for table, rows in (
            (_packs, [{"pack": number, "leaf": leaf, "added_in": sequence} for number, leaf in body.packs]),
            (
                _templates,
                [{"pack": at.pack, "slot": at.slot, "leaf": at.leaf, "added_in": sequence} for at in body.added],
            ),
        ):
            if rows:
                connection.execute(insert(table).prefix_with("OR REPLACE"), rows)

    def _scope_digest(self) -> bytes:
        return digest("staged", self._scope.gallery, self._scope.key_id, self._parameters.name)


class StagedChanges(Sequence[Change]):
    """The staged log as a sequence that is read from the file, one change at a time, as often as it is walked."""

    def __init__(self, engine: Engine, base: int, last: int) -> None:
        self._engine = engine
        self._base = base
        self._last = last

    def __len__(self) -> int:
        return self._last - self._base

    @overload
    def __getitem__(self, index: int) -> Change: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Change]: ...
    def __getitem__(self, index: int | slice) -> Change | Sequence[Change]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        number = self._base + 1 + index % len(self)
        query = select(_log.c.sequence, _log.c.body, _log.c.certificate).where(_log.c.sequence == number)
        with self._engine.connect() as connection:
            return Change(*connection.execute(query).one())
