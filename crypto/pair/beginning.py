"""The first messages of a session: which requests it is about, its id and its mask. Nothing is opened before them.

The minus holder names the requests when it opens the session, and says in its hello what it holds of each. The plus
holder compares that with what it holds itself. What is the same at both goes on; what is not ends there, at both, with
the error that names the difference; what is not at the plus holder has no part in it. So of requests that go together
one that is wrong costs the others nothing: which go on depends on nothing but what both say of each by itself.

Both find the same. The comparisons are equalities, of digests that each computes of its own and hears of the other, so
two that follow the protocol agree about every request; whoever says otherwise deviates, and the session ends for all.
docs/protocol.md, "The pair session".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from veilmatch.crypto.dealing import Kind
from veilmatch.crypto.digests import DIGEST_BYTES, NONCE_BYTES, digest
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import CiphertextError, ProtocolError, VeilmatchError
from veilmatch.crypto.keys.parties import Party, other_party
from veilmatch.crypto.keys.shares import PairShare
from veilmatch.crypto.pair.conversion import fingerprint_hashes, hashes_agree
from veilmatch.crypto.pair.exchange import Exchange, Steps
from veilmatch.crypto.pair.key_safety import session_nonce
from veilmatch.crypto.pair.mask import SessionMask
from veilmatch.crypto.pair.messages import Composed, Hello, Standing
from veilmatch.crypto.pair.request import CONTEXT_BYTES, Part, compare_context
from veilmatch.crypto.secret_access import SecretHolder

#: Stock that is used for some parts, beside the triples of their conversion.
Counts = Callable[[Sequence[Part]], Mapping[Kind, int]]


@dataclass(frozen=True, slots=True, repr=False)
class Mine(SecretHolder):
    """What this holder says of a request. listed: digest of its ciphertexts, and of what both have to know of them."""

    part: Part
    context: bytes
    listed: bytes
    local: Sequence[LocalShare]


@dataclass(frozen=True, slots=True)
class _Theirs:
    """What the peer says of a request."""

    context: bytes
    listed: bytes
    prints: bytes


class Beginning(SecretHolder):
    """One holder's first messages. coins, mask_secret: 32 random bytes each, fresh."""

    def __init__(self, exchange: Exchange, share: PairShare, coins: bytes, mask_secret: bytes) -> None:
        self._exchange = exchange
        self._share = share
        self._nonce = session_nonce(coins)
        self._mask_secret = mask_secret
        #: What the peer's coins are compared with.
        self.peer_nonce = b""

    @property
    def peer(self) -> Party:
        """The other holder of the pair."""
        return other_party(self._share.pair, self._share.party)

    @property
    def roles(self) -> tuple[str, str]:
        """Of this holder, and of the peer."""
        return ("plus", "minus") if self._exchange.is_plus else ("minus", "plus")

    def hello(self, named: Sequence[Mine | None], counts: Counts) -> Steps[list[Mine]]:
        """Compare what each request is about and what both have converted of it; have the same stock reserved.

        named: the requests that the session was opened with; at the plus holder None for each that is not here.
        Returns those that go on. The session id comes from their contexts and both nonces, the mask from both secrets.
        The minus holder speaks first, and its fingerprints are bound to its own nonce; those of the plus holder to the
        session. Only when that has compared all it reserves stock for what goes on, above the floors of both.
        """
        found = yield from (self._as_plus(named, counts) if self._exchange.is_plus else self._as_minus(named, counts))
        going = [mine for mine, standing in found if standing == Standing.GOES_ON and mine is not None]
        if not going:
            raise ProtocolError("a session about nothing that is at both holders")
        return going

    def _as_plus(self, named: Sequence[Mine | None], counts: Counts) -> Steps[list[tuple[Mine | None, Standing]]]:
        exchange = self._exchange
        theirs, of_session = yield from exchange.receive_hello()
        self._take_nonce(theirs)
        if of_session or theirs.standing:
            raise ProtocolError("a hello of another session, or one that answers another")
        said = _said(theirs, len(named))
        refused: dict[int, VeilmatchError] = {}
        standing = [Standing.MISSING] * len(named)
        for place, mine in enumerate(named):
            if mine is None:
                continue
            error = self._difference(mine, said[place], theirs.nonce)
            if error is not None:
                refused[place] = error
            standing[place] = Standing.GOES_ON if error is None else Standing.REFUSED
        going = [mine for mine, s in zip(named, standing, strict=True) if s == Standing.GOES_ON and mine is not None]
        self._raise_floors(theirs)
        self._make_session(going, theirs)
        starts = (yield from exchange.reserve(_stock(going, counts))) if going else {}
        here = [mine for mine in named if mine is not None]
        # Of what was refused, too: the other one finds it out for itself.
        yield from exchange.send(self._hello(here, exchange.session_id, starts, bytes(standing)))
        yield from _composed(standing, refused)
        return list(zip(named, standing, strict=True))

    def _as_minus(self, named: Sequence[Mine | None], counts: Counts) -> Steps[list[tuple[Mine | None, Standing]]]:
        exchange = self._exchange
        mine = [one for one in named if one is not None]
        yield from exchange.send(self._hello(mine, self._nonce, {}, b""))
        theirs, of_session = yield from exchange.receive_hello()
        self._take_nonce(theirs)
        standing = _standing(theirs, len(mine))
        going = [one for one, s in zip(mine, standing, strict=True) if s == Standing.GOES_ON]
        self._raise_floors(theirs)
        self._make_session(going, theirs)
        if of_session != exchange.session_id:
            raise ProtocolError("a hello of another session")
        here = [place for place, s in enumerate(standing) if s != Standing.MISSING]
        refused: dict[int, VeilmatchError] = {}
        for place, said in zip(here, _said(theirs, len(here)), strict=True):
            error = self._difference(mine[place], said, exchange.session_id)
            if (error is None) != (standing[place] == Standing.GOES_ON):
                raise self._parted(error, alone=len(mine) == 1)
            if error is not None:
                refused[place] = error
        wanted = _stock(going, counts) if going else {}
        if any(theirs.starts[kind] < exchange.floors[kind] for kind in wanted):
            raise ProtocolError("stock allocated where it may not be", got=theirs.starts, expected=exchange.floors)
        yield from _composed(standing, refused)
        if going:
            yield from exchange.reserve(wanted, theirs.starts)
        return list(zip(named, standing, strict=True))

    def _parted(self, error: VeilmatchError | None, *, alone: bool) -> VeilmatchError:
        """Return the error for a peer that finds something else than this holder: one of them deviates."""
        if error is not None and alone:
            return error
        why = "goes on with" if error is not None else "refuses"
        return ProtocolError(
            f"key holder {self.peer} {why} a request of which the comparison says otherwise",
            got=None if error is None else error.message,
        )

    def _difference(self, mine: Mine, theirs: _Theirs, bound_to: bytes) -> VeilmatchError | None:
        """Return the error that names what differs, if anything does: nothing is opened of that request then."""
        try:
            compare_context(mine.context, theirs.context)
            require_same(self._share.party, self.peer, theirs.listed, mine.listed)
            require_well_formed(theirs.prints, self._prints(mine, bound_to, self.roles[1]))
        except VeilmatchError as error:
            return error
        return None

    def _prints(self, mine: Mine, bound_to: bytes, role: str) -> bytes:
        """Return one digest of the fingerprints of a request."""
        prints = fingerprint_hashes(mine.local, bound_to, role, self._exchange.scheme.modulus)
        return digest("fingerprints", mine.context, prints)

    def _hello(self, mine: Sequence[Mine], bound_to: bytes, starts: Mapping[Kind, int], standing: bytes) -> Hello:
        floors = self._exchange.floors
        return Hello(
            b"".join(one.context for one in mine), self._nonce, self._mask_secret,
            floors["triples"], floors["bits"], floors["products"],
            starts.get("triples", 0), starts.get("bits", 0), starts.get("products", 0),
            b"".join(one.listed for one in mine),
            b"".join(self._prints(one, bound_to, self.roles[0]) for one in mine), standing,
        )  # fmt: skip

    def _take_nonce(self, theirs: Hello) -> None:
        if len(theirs.nonce) != NONCE_BYTES or theirs.nonce == self._nonce:
            raise ProtocolError("a session nonce of the wrong size, or my own", expected=f"{NONCE_BYTES} fresh bytes")
        self.peer_nonce = theirs.nonce

    def _raise_floors(self, theirs: Hello) -> None:
        """Use no stock below the other's floors."""
        floors = self._exchange.floors
        self._exchange.floors = {kind: max(floor, theirs.floors[kind]) for kind, floor in floors.items()}

    def _make_session(self, going: Sequence[Mine], theirs: Hello) -> None:
        """Make the session's id and mask."""
        exchange = self._exchange
        both = (self._nonce, theirs.nonce), (self._mask_secret, theirs.mask_secret)
        nonces, secrets = both if exchange.is_plus else (both[0][::-1], both[1][::-1])
        session_id = digest("session id", b"".join(one.context for one in going), *nonces)
        exchange.mask = SessionMask(session_id, *secrets)
        exchange.session_id = session_id


def require_same(party: Party, peer: Party, theirs: bytes, listed: bytes) -> None:
    """Raise ProtocolError if the two holders were given different ciphertexts."""
    if not hashes_agree(theirs, listed):
        # Which of their matchers deviates neither can know.
        both = " and ".join(sorted((party, peer)))
        raise ProtocolError(f"key holders {both} were given different ciphertexts")


def require_well_formed(theirs: bytes, expected: bytes) -> None:
    """Raise CiphertextError if the fingerprints of the two holders do not fit."""
    if not hashes_agree(theirs, expected):
        raise CiphertextError("a ciphertext is not well-formed under this key and epoch")


def _composed(standing: Sequence[Standing], refused: Mapping[int, VeilmatchError]) -> Steps[None]:
    going = tuple(place for place, s in enumerate(standing) if s == Standing.GOES_ON)
    yield Composed(going, refused)
    if not going and refused:
        raise next(iter(refused.values()))


def _stock(going: Sequence[Mine], counts: Counts) -> dict[Kind, int]:
    return {"triples": sum(len(one.local) for one in going), **counts([one.part for one in going])}


def _standing(theirs: Hello, count: int) -> list[Standing]:
    """Return what the plus holder says becomes of so many requests. Raises ProtocolError if it does not say it."""
    if len(theirs.standing) != count or not set(theirs.standing) <= set(Standing):
        raise ProtocolError("not a word on every request", got=len(theirs.standing), expected=count)
    return [Standing(s) for s in theirs.standing]


def _said(theirs: Hello, count: int) -> list[_Theirs]:
    """Return what a hello says of so many requests. Raises ProtocolError if it is not of that size."""
    columns = []
    for joined, size in (
        (theirs.context, CONTEXT_BYTES), (theirs.ciphertexts, DIGEST_BYTES), (theirs.fingerprints, DIGEST_BYTES),
    ):  # fmt: skip
        if len(joined) != size * count:
            raise ProtocolError("a hello of the wrong size", got=len(joined), expected=size * count)
        columns.append([joined[at : at + size] for at in range(0, len(joined), size)])
    return [_Theirs(*of_one) for of_one in zip(*columns, strict=True)]
