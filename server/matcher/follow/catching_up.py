"""Taking the changes that a gallery lacks from another matcher.

Log first, then, some at a time, the contents that are there at its end, each call going on with the log: until nothing
is missing. Everything is staged (`staging`), and applied in one transaction. While that is written queries go on with
what there was before; the gallery's lock is held alone for its end, in which the new state takes the place of the old.
A part that was received is not asked for again, from whomever the rest comes.

What whoever sends can do is not to send, or slowly: it is waited for as long as what it has sent is worth (`Patience`),
and whoever asks goes on with the next. A body, a certificate or a content that is altered, a part that is left out,
doubled or out of order is an IntegrityError that names it, and nothing of it is applied.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc

from veilmatch.crypto.errors import GalleryMismatchError, IntegrityError, ProtocolError, UnavailableError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.ground.finishing import to_the_end
from veilmatch.server.matcher.follow.followed import Followed, InService
from veilmatch.server.matcher.follow.serving import CALL_BYTES, AtOnce
from veilmatch.server.matcher.follow.staging import Staging, Wanted
from veilmatch.server.matcher.gallery.body import BODY_BYTES_MAX
from veilmatch.server.matcher.gallery.changes import Change
from veilmatch.server.transport.limits import SILENCE_S
from veilmatch.server.transport.status import from_rpc

#: Contents asked for at once.
_CALL_BYTES = CALL_BYTES
#: How long a peer is waited for in all: so long, and longer by what it has sent that is of use, at 1 Mbit/s.
_BASE_S, _SLOW_BYTES_S = 10.0, 1 << 17
#: How long for what it has not sent yet while another one is there to be asked, and how often that is looked at.
_OTHERS_S, _LOOK_S = 1.0, 0.1
#: What an UnavailableError about a peer ends with that has less than there is here.
BEHIND = "is behind itself"


class Taken(NamedTuple):
    """What catching up took: changes, bytes received, and for how long queries were kept out."""

    changes: int
    received_bytes: int
    locked_s: float


async def catch_up(
    followed: Followed, stub: rpc.MatcherPeerAsyncStub, peer: str, others_wait: Callable[[], bool] = lambda: False
) -> Taken:
    """Bring a gallery up to what `peer`, a matcher by name, has committed.

    others_wait: whether there is another one that may give it, too: then the peer is waited for less long.

    Raises IntegrityError, naming it, if what it sends is not what two organisations have signed; UnavailableError if
    it does not answer, or is behind itself; GalleryMismatchError if the two have parted.
    """
    patience = Patience(peer, others_wait)
    try:
        return await _attempt(followed, stub, patience)
    except GalleryMismatchError:
        # What another one has sent, and is staged, may be of another history than this one's, and never be complete.
        if not await _forget(followed):
            raise
    return await _attempt(followed, stub, patience)


async def _attempt(followed: Followed, stub: rpc.MatcherPeerAsyncStub, patience: Patience) -> Taken:
    staging = await _staging(followed)
    try:
        received = await _fill(followed, staging, stub, patience)
        return await _apply(followed, staging, received)
    finally:
        await asyncio.to_thread(staging.close)


async def _forget(followed: Followed) -> bool:
    """Discard what is staged; return whether it went beyond what is here."""
    staging = await _staging(followed)
    try:
        if staging.sequence == followed.gallery.state.sequence:
            return False
        await asyncio.to_thread(staging.discard)
        return True
    finally:
        await asyncio.to_thread(staging.close)


async def _staging(followed: Followed) -> Staging:
    opening = followed.staging_file, followed.gallery.state, followed.parameters, followed.signers
    return await asyncio.to_thread(Staging.open, *opening)


async def _fill(followed: Followed, staging: Staging, stub: rpc.MatcherPeerAsyncStub, patience: Patience) -> int:
    """Call until nothing is missing; return how many bytes came."""
    peer = patience.peer
    at_once = AtOnce.of(followed.parameters, _CALL_BYTES)
    received, wanted = 0, Wanted([], [])
    while True:
        before = staging.sequence
        receiving = Receiving(staging, wanted, peer)
        request = pb.ChangesRequest(
            gallery=followed.to_wire(),
            sequence=before,
            chain=staging.chain,
            packs=wanted.packs,
            templates=[pb.GalleryPlace(pack=pack, slot=slot) for pack, slot in wanted.templates],
        )
        async for part in parts(stub.Changes(request), patience):
            received += part.ByteSize()
            patience.add(await asyncio.to_thread(receiving.take, part))
        with _sent_by(peer):
            receiving.end(moved=staging.sequence != before)
        wanted = await asyncio.to_thread(staging.missing, *at_once)
        if not wanted.packs and not wanted.templates:
            return received


async def _apply(followed: Followed, staging: Staging, received: int) -> Taken:
    gallery = followed.gallery
    if gallery.is_stale:
        async with gallery.lock.exclusive():
            await gallery.refresh()
    try:
        async with gallery.lock.preparing():
            return await _applied(followed, staging, received, gallery.apply_beside)
    except TimeoutError:
        # Queries that do not end cannot keep it behind, nor the database from others.
        async with gallery.lock.exclusive():
            return await _applied(followed, staging, received, _alone(gallery))


async def _applied(
    followed: Followed, staging: Staging, received: int, apply: Callable[[Sequence[Change], Staging], Awaitable[float]]
) -> Taken:
    gallery, locked_s = followed.gallery, 0.0
    # Meanwhile a pair may have brought it further, or failed to.
    if gallery.is_stale or not await asyncio.to_thread(staging.rebase, gallery.state):
        if gallery.state.sequence > staging.sequence:
            return Taken(0, received, locked_s)
        raise UnavailableError("the gallery has changed meanwhile", needed="another try")
    changes = staging.changes()
    if changes:
        try:
            locked_s = await apply(changes, staging)
        except IntegrityError:
            # Two organisations have signed it, and it does not fit here: kept, it would only fail again. Who sent it
            # is not to blame for that; it may be this database that is damaged.
            await asyncio.to_thread(staging.discard)
            raise
        if followed.applied is not None:
            await followed.applied()
    await asyncio.to_thread(staging.discard)
    return Taken(len(changes), received, locked_s)


def _alone(gallery: InService) -> Callable[[Sequence[Change], Staging], Awaitable[float]]:
    async def apply(changes: Sequence[Change], staging: Staging) -> float:
        started = time.monotonic()
        await to_the_end(gallery.apply(changes, staging))
        return time.monotonic() - started

    return apply


class Receiving:
    """One answer of a peer, part by part; keeps in `staging` what is as it should be. wanted: what was asked for."""

    def __init__(self, staging: Staging, wanted: Wanted, peer: str) -> None:
        self._staging = staging
        self._packs = iter(wanted.packs)
        self._templates = iter(wanted.templates)
        self._asked = len(wanted.packs) + len(wanted.templates)
        self._kept = 0
        self._peer = peer
        self._body = bytearray()
        self._sequence = 0
        self._start = staging.sequence
        self._stage = 0
        self._ended = False

    def take(self, part: pb.ChangePart) -> int:
        """Take the next part; return how many bytes of it are of use, as far as that is known by now.

        Raises IntegrityError, naming the peer, if anything of it does not belong there.
        """
        useful = 0
        with _sent_by(self._peer):
            if self._ended:
                raise ProtocolError("something comes after the end of the log")
            if not part.ByteSize():
                raise ProtocolError("a part with nothing in it")
            for stage, present in enumerate((part.packs, part.templates, part.log, part.HasField("head"))):
                if present:
                    if stage < self._stage:
                        raise ProtocolError("parts are out of order")
                    self._stage = stage
            if part.packs:
                packs = [(one.pack, one.data) for one in part.packs]
                _require_next(self._packs, [number for number, _ in packs])
                others = self._staging.take_packs(packs)
                self._kept += len(packs) - others
                useful += part.ByteSize() if not others else 0
            if part.templates:
                found = [((x.place.pack, x.place.slot), x.subject, x.data, x.terms) for x in part.templates]
                _require_next(self._templates, [place for place, *_ in found])
                others = self._staging.take_templates(found)
                self._kept += len(found) - others
                useful += part.ByteSize() if not others else 0
            if part.log:
                # Of a body that is cut, only its end will show it; it has a largest size.
                useful += sum(len(piece.body) + len(piece.certificate) for piece in part.log)
                self._staging.add_changes(self._whole(part))
            if part.HasField("head"):
                self._end(part.head)
        return useful

    def end(self, *, moved: bool) -> None:
        """Say that there are no more parts. moved: the log has gone on. Raises IntegrityError if something is missing.

        While the log stood still, what was asked for was there, and was what the log names.
        """
        if not self._ended:
            raise ProtocolError("the end of the log is missing")
        if not moved and self._kept != self._asked:
            raise IntegrityError(
                "contents of the gallery are not what its log names", got=self._kept, expected=self._asked
            )

    def _whole(self, part: pb.ChangePart) -> list[Change]:
        """Return the changes that are complete with this part."""
        whole = []
        for piece in part.log:
            if self._body and piece.sequence != self._sequence:
                raise ProtocolError("a change is cut off", got=piece.sequence, expected=self._sequence)
            self._sequence = piece.sequence
            self._body += piece.body
            if len(self._body) > BODY_BYTES_MAX:
                raise ProtocolError("a change that is too large", got=len(self._body), expected=BODY_BYTES_MAX)
            if piece.certificate:
                whole.append(Change(piece.sequence, bytes(self._body), piece.certificate))
                self._body.clear()
        return whole

    def _end(self, head: pb.GalleryHead) -> None:
        self._ended = True
        if self._body:
            raise ProtocolError("a change is cut off", got=self._sequence)
        if self._staging.base < head.sequence < self._start:
            raise GalleryMismatchError(
                f"{self._peer} has less than what is staged, and more than what is here",
                got=head.sequence, expected=self._start, party=self._peer,
            )  # fmt: skip
        if head.sequence < self._start:
            raise UnavailableError(
                f"{self._peer} {BEHIND}",
                party=self._peer, needed=f"change {self._start}", available=f"change {head.sequence}",
            )  # fmt: skip
        if (head.sequence, head.chain) != (self._staging.sequence, self._staging.chain):
            raise ProtocolError("changes are missing", got=self._staging.sequence, expected=head.sequence)


def _require_next(asked: Any, got: list[Any]) -> None:
    """Raise ProtocolError unless `got` are some of what was asked for, in that order, each once."""
    for one in got:
        if one not in asked:  # goes on through it
            raise ProtocolError("a content that was not asked for, or came before", got=one)


class Patience:
    """How long a peer is waited for while it sends changes, over all calls of one catching up.

    What is done here with its parts does not count. others_wait: as in `catch_up`. Once it is so, little is left but
    what the peer goes on to earn: one that trickles keeps nobody from the other one, and one that sends is not left.
    """

    def __init__(self, peer: str, others_wait: Callable[[], bool] = lambda: False) -> None:
        self.peer = peer
        self._left_s = _BASE_S
        self._others_wait = others_wait
        self._is_short = False

    def add(self, useful: int) -> None:
        """Wait longer, for so many bytes that were of use."""
        self._left_s += useful / _SLOW_BYTES_S

    async def read(self, call: Any) -> Any:
        """Return the next part of an answer. Raises UnavailableError if the peer has taken too long."""
        reading, silent_s = asyncio.ensure_future(call.read()), 0.0
        clock = asyncio.get_running_loop().time
        try:
            while True:
                if not self._is_short and self._others_wait():
                    self._is_short, self._left_s = True, min(self._left_s, _OTHERS_S)
                started = clock()
                await asyncio.wait({reading}, timeout=max(0.0, min(self._left_s, SILENCE_S - silent_s, _LOOK_S)))
                waited_s = clock() - started
                self._left_s, silent_s = self._left_s - waited_s, silent_s + waited_s
                if reading.done():
                    return reading.result()
                if self._left_s <= 0 or silent_s >= SILENCE_S:
                    message = f"{self.peer} does not go on with its changes, or too slowly"
                    raise UnavailableError(message, party=self.peer, needed=self.peer)
        finally:
            reading.cancel()


async def parts(call: Any, patience: Patience) -> AsyncGenerator[pb.ChangePart, None]:
    """Yield the parts of an answer. Raises what it ends with."""
    try:
        while (part := await patience.read(call)) is not grpc.aio.EOF:
            yield part
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error, patience.peer) from None
    finally:
        call.cancel()


@contextmanager
def _sent_by(peer: str) -> Iterator[None]:
    """Let an error about what was sent name who sent it."""
    try:
        yield
    except IntegrityError as error:
        error.party = error.party or peer
        raise
