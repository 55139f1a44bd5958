"""One refresh at one key holder, while it is under way: what it has agreed on with its two peers. In memory only.

For each of its two pairs it agrees on a common seed (crypto/keys/refreshing.py), makes its next key once it has both,
and shows the other holder that the new shares fit. The plus holder of a pair calls: `agree` and `show`; the minus
holder answers: `contribute`, `learn` and `compare`. Every answer is given once, so nothing can be asked again with
another value.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from veilmatch.crypto.digests import DIGEST_BYTES
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import KeyMismatchError, ProtocolError
from veilmatch.crypto.keys.parties import Pair, Party, pairs_of
from veilmatch.crypto.keys.refreshing import (
    CONTRIBUTION_BYTES,
    FIT_BYTES,
    CommonSeed,
    RefreshName,
    commitment,
    common_seed,
    fit_hashes,
    next_epoch,
    open_commitment,
    refreshed_key,
)
from veilmatch.crypto.keys.shares import SEED_BYTES, KeyHolderKey
from veilmatch.crypto.pair.conversion import hashes_agree
from veilmatch.crypto.secret_access import SecretHolder

#: Sends the minus holder of a pair a value under the name of a step and returns its answer.
Ask = Callable[[str, Pair, bytes], Awaitable[bytes]]


@dataclass(repr=False)
class _Side(SecretHolder):
    """What this holder knows of one pair's refresh."""

    name: RefreshName
    contribution: bytes = field(default_factory=lambda: secrets.token_bytes(CONTRIBUTION_BYTES))
    committed: bytes = b""
    seed: asyncio.Future[CommonSeed] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    fits: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Attempt(SecretHolder):
    """See the module. leader: who began it. Raises ParameterError if the key can be refreshed no more."""

    def __init__(self, refresh_id: bytes, leader: Party, key: KeyHolderKey, scheme: Paillier) -> None:
        if len(refresh_id) != DIGEST_BYTES:
            raise ProtocolError("a refresh id of the wrong size", got=len(refresh_id), expected=DIGEST_BYTES)
        self.refresh_id = refresh_id
        self.leader: Party = leader
        self.epoch = next_epoch(key.epoch, key.since)
        self._key = key
        self._scheme = scheme
        self._taken_up = False
        self._kept: asyncio.Future[KeyHolderKey] = asyncio.get_running_loop().create_future()
        self._sides = {
            pair: _Side(RefreshName(refresh_id, key.key_id, self.epoch, pair)) for pair in pairs_of(key.party)
        }

    # -- both holders ---------------------------------------------------------------------------

    def take_up(self) -> None:
        """Begin to work on it. Raises ProtocolError the second time: a next key is made once."""
        if self._taken_up:
            raise ProtocolError("a refresh that is being prepared already", got=self.epoch)
        self._taken_up = True

    async def next_key(self) -> KeyHolderKey:
        """Wait for the common seeds of both pairs; return the key that they make."""
        seeds = {pair: await side.seed for pair, side in self._sides.items()}
        return refreshed_key(self._key, seeds, secrets.token_bytes(SEED_BYTES), self._scheme.public_key)

    def kept(self, key: KeyHolderKey) -> None:
        """Take the next key as it was read back from where it is kept."""
        self._kept.set_result(key)

    async def fit(self) -> None:
        """Wait until the shares of both pairs are known to fit."""
        for side in self._sides.values():
            await side.fits

    def close(self) -> None:
        """Let nobody wait any more: whoever does is cancelled."""
        self._kept.cancel()
        for side in self._sides.values():
            side.seed.cancel()
            side.fits.cancel()

    async def _hashes(self, pair: Pair) -> tuple[bytes, bytes]:
        """Return the plus and the minus holder's hashes, from this holder's shares."""
        new_key, seed = await self._kept, await self._sides[pair].seed
        old, new = ((key.share(pair), key.safety(pair)) for key in (self._key, new_key))
        plus, minus = [
            await asyncio.to_thread(fit_hashes, old, new, seed, self._scheme, role) for role in ("plus", "minus")
        ]
        return plus, minus

    # -- plus holder ----------------------------------------------------------------------------

    async def agree(self, pair: Pair, ask: Ask) -> None:
        """Commit, take the other's contribution, reveal."""
        side = self._sides[pair]
        theirs = await ask("Commitment", pair, commitment(side.name, side.contribution))
        seed = common_seed(side.name, side.contribution, theirs)
        await ask("Reveal", pair, side.contribution)
        side.seed.set_result(seed)

    async def show(self, pair: Pair, ask: Ask) -> None:
        """Show that the new share fits, and be shown. Raises KeyMismatchError if it does not."""
        plus, minus = await self._hashes(pair)
        _require_fit(await ask("Fit", pair, plus), minus, pair)
        self._sides[pair].fits.set_result(None)

    # -- minus holder ---------------------------------------------------------------------------

    def contribute(self, pair: Pair, committed: bytes) -> bytes:
        """Return this holder's contribution against the other's commitment."""
        side = self._sides[pair]
        if side.committed or len(committed) != DIGEST_BYTES:
            raise ProtocolError("a second commitment, or not a commitment", got=len(committed), expected=DIGEST_BYTES)
        side.committed = committed
        return side.contribution

    def learn(self, pair: Pair, contribution: bytes) -> None:
        """Take the other's contribution. Raises ProtocolError if it is not what was committed to."""
        side = self._sides[pair]
        if side.seed.done() or not side.committed:
            raise ProtocolError("a contribution that was not committed to, or a second one", got=pair)
        plus = open_commitment(side.name, side.committed, contribution)
        side.seed.set_result(common_seed(side.name, plus, side.contribution))

    async def compare(self, pair: Pair, theirs: bytes) -> bytes:
        """Be shown that the other's new share fits, and return what shows the same of this one."""
        if self._sides[pair].fits.done():
            raise ProtocolError("a second test of new shares", got=pair)
        plus, minus = await self._hashes(pair)
        _require_fit(theirs, plus, pair)
        self._sides[pair].fits.set_result(None)
        return minus


def _require_fit(received: bytes, expected: bytes, pair: Pair) -> None:
    if len(received) != FIT_BYTES or not hashes_agree(received, expected):
        raise KeyMismatchError(
            "the new shares of a pair do not fit each other: one of its key files is not the newest one", got=pair
        )
