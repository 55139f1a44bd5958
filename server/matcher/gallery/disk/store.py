"""The galleries of one matcher on disk: what an organisation has promised, accepted and committed.

Every transition of `agreement.acceptor` is one durable transaction here. A mutation is accepted (durable, not yet
visible), then committed with its certificate, or gives way to another one; several that others have committed are
applied at once. A kill at any moment leaves the state before a call or the one after it.

    store = Store(data_dir, key_id, parameters)     # or StorageSettings: a PostgreSQL database
    store.open_gallery("staff")
    store.promise("staff", ballot)               # both organisations of the pair have
    store.accept("staff", mutation, origin)      # both have, and have signed it
    store.commit("staff", certificate)

Methods block; a server calls them in a thread. Any thread may call, one at a time per gallery.
All raise IntegrityError if the database is damaged, UnavailableError if it cannot be used (disk
full, locked, a server that is not there), and KeyMismatchError for a gallery that `open_gallery` never made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from sqlalchemy import and_, bindparam, func, insert, select, update

from veilmatch.crypto.errors import DuplicateTokenError, IntegrityError
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.config import GalleriesIn
from veilmatch.server.matcher.agreement import acceptor
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Certificate, Statement, Vote
from veilmatch.server.matcher.agreement.lies import Proof
from veilmatch.server.matcher.gallery.changes import Change, Content, Contents, chained
from veilmatch.server.matcher.gallery.disk import evidence
from veilmatch.server.matcher.gallery.disk.accepted_rows import (
    commit_accepted,
    read_accepted,
    take_back,
    write_accepted,
)
from veilmatch.server.matcher.gallery.disk.batch import Batch, contents_since, size_since
from veilmatch.server.matcher.gallery.disk.checks import check_chain, check_named
from veilmatch.server.matcher.gallery.disk.database import is_rotating, mark_finished, open_database
from veilmatch.server.matcher.gallery.disk.mending import Differing, differing, put_packs, put_templates
from veilmatch.server.matcher.gallery.disk.pending import Pending, pending
from veilmatch.server.matcher.gallery.disk.reading import Reader
from veilmatch.server.matcher.gallery.disk.rows import (
    Place,
    check_fits,
    find_entry,
    find_gallery,
    of,
    state_of,
    visible,
    write_log,
    write_state,
)
from veilmatch.server.matcher.gallery.disk.schema import certificates, galleries, log, templates
from veilmatch.server.matcher.gallery.mutation import GalleryState, Mutation, initial_chain

#: Changes that are read from the log at once.
_LOG_AT_ONCE = 64


class Store(Reader):
    """Named galleries under one key and parameter set, in a data directory or a PostgreSQL database. Made if new.

    where: a folder means gallery.db in it. key_id: 16 bytes. Raises KeyMismatchError if the database
    belongs to another key or parameter set; IntegrityError if it is damaged, of a newer version, or no gallery
    database; ConfigurationError if another daemon has it.

    rotating: it is for a rotation to fill, and nobody else opens it until `finish` was called. party: whose it is, for
    the error that says that something in it is damaged.
    """

    def __init__(
        self,
        where: GalleriesIn,
        key_id: bytes,
        parameters: ParameterSet,
        *,
        rotating: bool = False,
        party: str | None = None,
    ) -> None:
        self.key_id = key_id
        super().__init__(open_database(where, key_id, parameters, rotating=rotating), parameters, party)

    def close(self) -> None:
        """Empty the write-ahead log and close the database."""
        self._database.forget_erased()
        self._database.close()

    # -- rotation ---------------------------------------------------------------------------

    def is_finished(self) -> bool:
        """Return whether a matcher may serve from this database: no rotation is filling it, or not any more."""
        with self._database.reading() as connection:
            return not is_rotating(connection)

    def finish(self) -> None:
        """Let matchers serve from this database: the rotation that filled it is complete. Durable."""
        with self._database.writing() as connection:
            mark_finished(connection)

    # -- galleries --------------------------------------------------------------------------

    def galleries(self) -> list[str]:
        """Return the names of all galleries, sorted."""
        with self._database.reading() as connection:
            return list(connection.scalars(select(galleries.c.name).order_by(galleries.c.name)))

    def open_gallery(self, name: str) -> GalleryState:
        """Make the gallery if it does not exist, and return its state.

        Raises IntegrityError if the hash chain, recomputed from the log, is not the one it claims.
        """
        with self._database.writing() as connection:
            if connection.scalar(select(galleries.c.id).where(galleries.c.name == name)) is None:
                connection.execute(insert(galleries).values(name=name, sequence=0, chain=self.initial_chain(name)))
            gallery = find_gallery(connection, name)
            check_named(connection, gallery, check_chain(connection, gallery, self.key_id, self._parameters))
            return state_of(gallery)

    def initial_chain(self, name: str) -> bytes:
        """Return the chain value of this gallery before its first change, 32 bytes."""
        return initial_chain(name, self.key_id, self._parameters)

    def state(self, name: str) -> GalleryState:
        """Return what this organisation has promised, accepted and committed."""
        with self._database.reading() as connection:
            return state_of(find_gallery(connection, name))

    # -- one change ---------------------------------------------------------------------------

    def promise(self, name: str, ballot: Ballot, heard: Iterable[Statement] = ()) -> GalleryState:
        """Promise, durably, that no lower ballot is accepted any more. heard: what is kept with it of others.

        Raises IntegrityError if a higher one was promised.
        """
        with self._database.writing() as connection:
            gallery = find_gallery(connection, name)
            state = acceptor.promise(state_of(gallery), ballot)
            write_state(connection, gallery, state, gallery.origin)
            evidence.keep(connection, gallery, heard)
        return state

    def accept(
        self, name: str, mutation: Mutation, origin: Certificate, ballot: Ballot, heard: Iterable[Statement] = ()
    ) -> GalleryState:
        """Accept `mutation` as the next one under a promised ballot, durably, in place of what was accepted before.

        origin: the proposals of two organisations under that ballot. Raises IntegrityError if the ballot is not the
        promised one, or if it does not fit the gallery (sizes, slots occupied or free already, a gap in the packs);
        DuplicateTokenError if a committed mutation has its token; ModelMismatchError if it adds embeddings of another
        model than those that are there. Nothing is changed then.
        """
        mutation.check(self._parameters)
        gone = 0
        with self._database.writing() as connection:
            gallery = find_gallery(connection, name)
            before = state_of(gallery)
            chain = next_chain(before.chain, before.sequence + 1, mutation.digest())
            state = acceptor.accept(before, ballot, chain)
            if origin.vote != Vote(before.sequence + 1, chain, ballot):
                raise IntegrityError("the proposals are those of another change", got=origin.vote.sequence)
            if before.accepted is None or before.accepted.chain != chain:
                gone = take_back(connection, gallery)
                if find_entry(connection, gallery, mutation.token) is not None:
                    raise DuplicateTokenError("the token was used before")
                check_fits(connection, gallery, mutation.body)
                write_accepted(connection, gallery, mutation)
            write_state(connection, gallery, state, origin.encode())
            evidence.keep(connection, gallery, heard)
        if gone:
            self._database.forget_erased()
        return state

    def accepted(self, name: str) -> tuple[Mutation, Certificate]:
        """Return what is accepted and not committed, and the proposals of the two that made it.

        Raises IntegrityError if it is damaged, or nothing is accepted.
        """
        with self._database.reading() as connection:
            gallery = find_gallery(connection, name)
            return read_accepted(connection, gallery), Certificate.decode(gallery.origin or b"")

    def accepted_kind(self, name: str) -> str | None:
        """Return the kind of the mutation that is accepted and not committed, None if there is none."""
        with self._database.reading() as connection:
            gallery = find_gallery(connection, name)
            return connection.scalar(select(log.c.kind).where(of(log, gallery, sequence=gallery.sequence + 1)))

    def commit(self, name: str, certificate: Certificate, heard: Iterable[Statement] = ()) -> GalleryState:
        """Make the accepted mutation that this certificate is of the last one, durably; return the new state.

        What it removes is overwritten in the file and in the write-ahead log. Raises IntegrityError
        if that mutation is not accepted. The signatures are the caller's to check.
        """
        vote = certificate.vote
        with self._database.writing() as connection:
            gallery = find_gallery(connection, name)
            before = state_of(gallery)
            is_that = before.accepted is not None and before.accepted.chain == vote.chain
            if not is_that or vote.sequence != before.sequence + 1:
                raise IntegrityError("the mutation to commit is not accepted", got=before)
            state = acceptor.commit(before, vote.sequence, vote.chain, vote.ballot)
            erased = commit_accepted(connection, gallery, certificate.encode())
            write_state(connection, gallery, state, None)
            evidence.keep(connection, gallery, heard)
        if erased:
            self._database.forget_erased()
        return state

    # -- several changes of others ---------------------------------------------------------------

    def apply(
        self,
        name: str,
        changes: Sequence[Change],
        given: Contents,
        heard: Iterable[Statement] = (),
        before_commit: Callable[[Pending], None] | None = None,
        touched: Collection[Place] | None = None,
    ) -> GalleryState:
        """Commit changes that others have committed, in one transaction; return the new state.

        given: all contents that they brought and that are there after the last of them; the first change may be the
        one that is accepted here, and then those of it need not be there. The base of a gallery that is moved here is
        one change of kind "moved". Raises IntegrityError, and changes nothing, if a change is not in the chain, does
        not fit, or lacks a content. The signatures are the caller's to check (`changes.check_changes`).

        before_commit: is called when everything is written and not yet there for others; what it raises undoes it.
        With it the commit takes a moment whatever was written, and `tidy` has to be called afterwards. touched: the
        places that the changes touch, if the rest of the gallery need not be read for it.
        """
        with self._database.writing(moves_log=before_commit is None) as connection:
            gallery = find_gallery(connection, name)
            before = state = state_of(gallery)
            erased = done = 0
            first = next(chained(before, changes), None)
            if first is not None and state.accepted is not None and first[3] == state.accepted.chain:
                change, _, certificate, _ = first
                done = 1
                erased += commit_accepted(connection, gallery, change.certificate)
                vote = certificate.vote
                state = acceptor.commit(state, vote.sequence, vote.chain, vote.ballot)
                write_state(connection, gallery, state, None)
                gallery = find_gallery(connection, name)
            else:
                erased += take_back(connection, gallery)
            # Twice through them, one at a time: the bodies of all may be large together.
            bodies = (body for _, body, _, _ in islice(chained(before, changes), done, None))
            batch = Batch.after(connection, gallery, bodies)
            for change, body, certificate, chain in islice(chained(before, changes), done, None):
                batch.take(change.sequence, body, self._parameters)
                write_log(connection, gallery, change.sequence, body, change.certificate)
                state = acceptor.commit(state, change.sequence, chain, certificate.vote.ballot)
            erased += batch.write(connection, gallery, given, self._parameters)
            write_state(connection, gallery, replace(state, accepted=None), None)
            evidence.keep(connection, gallery, heard)
            if before_commit is not None:
                before_commit(pending(connection, find_gallery(connection, name), touched))
        if erased and before_commit is None:
            self._database.forget_erased()
        return replace(state, accepted=None)

    def tidy(self) -> None:
        """After an `apply` with before_commit: move the write-ahead log into the file and empty it: it is long, and
        may hold records that were erased."""
        self._database.forget_erased()

    def bytes_after(self, name: str, sequence: int) -> int:
        """Return the size of what `contents_after` yields."""
        with self._database.reading() as connection:
            return size_since(connection, find_gallery(connection, name), sequence)

    def changes_after(self, name: str, sequence: int, count: int = _LOG_AT_ONCE) -> list[Change]:
        """Return up to `count` committed changes after number `sequence`, in order."""
        with self._database.reading() as connection:
            gallery = find_gallery(connection, name)
            both = and_(certificates.c.gallery_id == log.c.gallery_id, certificates.c.sequence == log.c.sequence)
            query = select(log.c.sequence, log.c.body, certificates.c.certificate).join(certificates, both)
            query = query.where(of(log, gallery), log.c.sequence > sequence).order_by(log.c.sequence)
            return [Change(*row) for row in connection.execute(query.limit(count))]

    def log_bytes_after(self, name: str, sequence: int) -> int:
        """Return the size of the bodies of all changes after number `sequence`."""
        with self._database.reading() as connection:
            gallery = find_gallery(connection, name)
            query = select(func.sum(func.length(log.c.body))).where(of(log, gallery), log.c.sequence > sequence)
            return connection.scalar(query) or 0

    def chain_at(self, name: str, sequence: int) -> bytes | None:
        """Return the chain value after the committed change of this number, or None if there is none of it."""
        if not sequence:
            return self.initial_chain(name)
        certificate = self.certificate(name, sequence)
        return None if certificate is None else certificate.vote.chain

    def contents_after(self, name: str, sequence: int) -> Iterator[Content]:
        """Yield all that changes after number `sequence` brought and that is still there: packs, then templates.

        The state is that of the first `next`; exhaust or close the iterator. Raises IntegrityError if one is damaged.
        """
        with self._database.reading() as connection:
            gallery = find_gallery(connection, name)
            yield from contents_since(connection, gallery, sequence, self._parameters)

    # -- damage -----------------------------------------------------------------------------------

    def differing(self, name: str) -> Differing:
        """Return the packs and templates that are not what the log says; reads all of them.

        Raises IntegrityError if the log is not the one that the gallery claims.
        """
        with self._database.reading() as connection:
            gallery = find_gallery(connection, name)
            check_chain(connection, gallery, self.key_id, self._parameters)
            return differing(connection, gallery)

    def mend(self, name: str, given: Mapping[int, bytes], records: Mapping[Place, tuple[str, bytes, bytes]]) -> None:
        """Put these contents in the place of damaged ones, durably: packs, and subjects with records and terms.

        The caller has compared them with the leaves that `differing` says.
        """
        with self._database.writing() as connection:
            gallery = find_gallery(connection, name)
            put_packs(connection, gallery, given)
            put_templates(connection, gallery, records)

    def note_asked(self, name: str, day: int, places: Sequence[Place]) -> None:
        """Note that the templates at these places were asked for on a day (Unix time / 86400), if it is a later one."""
        t = templates.c
        which = (t.pack == bindparam("at_pack")) & (t.slot == bindparam("at_slot")) & (t.asked_day < day)
        with self._database.writing() as connection:
            of_it = visible(templates, find_gallery(connection, name))
            values = [{"at_pack": pack, "at_slot": slot} for pack, slot in places]
            connection.execute(update(templates).where(of_it & which).values(asked_day=day), values)

    def take_over_asked(self, name: str, days: Mapping[Place, int]) -> None:
        """Set the days on which templates were last asked for (Unix time / 86400): those that they had elsewhere."""
        t = templates.c
        which = (t.pack == bindparam("at_pack")) & (t.slot == bindparam("at_slot"))
        values = [{"at_pack": pack, "at_slot": slot, "day": day} for (pack, slot), day in days.items()]
        if not values:
            return
        with self._database.writing() as connection:
            of_it = visible(templates, find_gallery(connection, name))
            connection.execute(update(templates).where(of_it & which).values(asked_day=bindparam("day")), values)

    # -- what others have signed ----------------------------------------------------------------

    def heard(self, name: str) -> dict[Party, Statement]:
        """Return the last statement of each other organisation that was kept."""
        with self._database.reading() as connection:
            return evidence.heard(connection, find_gallery(connection, name))

    def keep_heard(self, name: str, statements: Iterable[Statement]) -> None:
        """Keep these statements in place of earlier ones, whatever they say."""
        with self._database.writing() as connection:
            evidence.keep(connection, find_gallery(connection, name), statements)

    def last_votes(self, name: str) -> dict[Party, Certificate]:
        """Return, for each organisation, the last certificate in the log that has its signature."""
        with self._database.reading() as connection:
            return evidence.last_votes(connection, find_gallery(connection, name))

    def certificate(self, name: str, sequence: int) -> Certificate | None:
        """Return the certificate of a committed change, or None."""
        with self._database.reading() as connection:
            gallery = find_gallery(connection, name)
            query = select(certificates.c.certificate).where(of(certificates, gallery, sequence=sequence))
            found = connection.scalar(query)
            return Certificate.decode(found) if found is not None else None

    def certified(self, name: str, sequence: int) -> tuple[Change, bytes]:
        """Return a committed change, and the chain value before it. Raises IntegrityError if it is not there."""
        before = self.certificate(name, sequence - 1)
        for change in self.changes_after(name, sequence - 1, 1):
            return change, self.initial_chain(name) if before is None else before.vote.chain
        raise IntegrityError("a mutation is missing in the log", expected=sequence)

    def keep_proof(self, name: str, proof: Proof) -> None:
        """Keep a proof that an organisation has lied, durably; once."""
        with self._database.writing() as connection:
            evidence.keep_proof(connection, find_gallery(connection, name), proof)

    def proofs(self, name: str) -> list[Proof]:
        """Return every proof that was kept, in order."""
        with self._database.reading() as connection:
            return evidence.proofs(connection, find_gallery(connection, name))

    # -- restored from a copy ---------------------------------------------------------------------

    def mark_restored(self, name: str, others: Iterable[Party]) -> None:
        """Note, durably, that this gallery is an old copy: it takes part when it has caught up with all of `others`."""
        with self._database.writing() as connection:
            evidence.set_unmet(connection, find_gallery(connection, name), set(others))

    def unmet(self, name: str) -> set[Party]:
        """Return the organisations that it has to meet before it takes part again; empty if it was not restored."""
        with self._database.reading() as connection:
            return evidence.unmet(find_gallery(connection, name))

    def met(self, name: str, party: Party, ballot: Ballot) -> GalleryState:
        """Note that it has caught up with `party`, which knows of no ballot here above `ballot`: that is promised."""
        with self._database.writing() as connection:
            gallery = find_gallery(connection, name)
            state = state_of(gallery)
            state = replace(state, promised=max(state.promised, ballot))
            write_state(connection, gallery, state, gallery.origin)
            evidence.set_unmet(connection, gallery, evidence.unmet(gallery) - {party})
        return state
