"""Refreshing pair shares: both holders of a pair add one fresh common value to each of their shares.

The differences o_plus - o_minus and kappa_plus - kappa_minus stay, so the key, the gallery and every ciphertext
stay; a share from before and one from after say nothing together. All three pairs are refreshed in one epoch.

Common values come from 32-byte contributions of both holders, by commit and reveal: the plus holder commits, the
minus holder contributes, the plus holder reveals, so neither controls the result alone. Everything random is
expanded from the common seed under a label. What is exchanged where:
server/keyholder/refresh/refresh.py. docs/security-argument.md.

Who leads a refresh decides whether it is used. Its name is a digest of 32 bytes that only the leader knows: whoever has
these has the leader's own decision, from whomever they came. So nobody can make one up for it, and it cannot take one
back: one bit of a one-time signature (Lamport, 1979).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer, from_bytes, power, to_bytes
from veilmatch.crypto.dealing import keystream
from veilmatch.crypto.digests import DIGEST_BYTES, digest
from veilmatch.crypto.encryption.paillier import STATISTICAL_BITS, Paillier, PublicKey
from veilmatch.crypto.errors import IntegrityError, KeyMismatchError, ParameterError, ProtocolError
from veilmatch.crypto.keys.parties import Pair, other_party, pairs_of
from veilmatch.crypto.keys.shares import GAMMA_BITS, MAX_EPOCH, SEED_BYTES, KeyHolderKey, PairShare, SafetyShare
from veilmatch.crypto.pair.conversion import fingerprint_hashes
from veilmatch.crypto.secret_access import SECRET_ACCESS, SecretHolder

CONTRIBUTION_BYTES = 32
DECISION_BYTES = 32
#: Size of what `fit_hashes` returns.
FIT_BYTES = 5 * DIGEST_BYTES
#: What a holder shares with its peer.
Held = tuple[PairShare, SafetyShare]
_AES_BLOCK = 16


@dataclass(frozen=True, slots=True)
class RefreshName:
    """Which refresh of which pair: refresh_id is what `refresh_id_of` returns, epoch the one that it makes."""

    refresh_id: bytes
    key_id: bytes
    epoch: int
    pair: Pair

    def digest(self, label: str, *parts: bytes) -> bytes:
        """Return the digest of this name and `parts` under a label."""
        return digest(f"refresh {label}", self.refresh_id, self.key_id, self.epoch, self.pair, *parts)


@dataclass(frozen=True, slots=True, repr=False)
class CommonSeed(SecretHolder):
    """The 32 bytes from which all common values of one pair's refresh are expanded."""

    name: RefreshName
    _seed: bytes

    def bits(self, what: str, bits: int) -> Integer:
        """Return the uniform integer of [0, 2^bits) of this label."""
        size = (bits + 7) // 8
        return from_bytes(self._stream(what, size)) >> (8 * size - bits)

    def below(self, what: str, bound: Integer) -> Integer:
        """Return the integer of [0, bound) of this label, at most 2^-128 from uniform."""
        return from_bytes(self._stream(what, (bound.bit_length() + STATISTICAL_BITS + 7) // 8)) % bound

    def _stream(self, what: str, size: int) -> bytes:
        key = self.name.digest("value", what.encode(), self._seed)
        return keystream(key, 0, -(-size // _AES_BLOCK) * _AES_BLOCK)[:size]


def next_epoch(epoch: int, since: int = 1) -> int:
    """Return the epoch after a refresh. since: the one in which the shares were dealt.

    Raises ParameterError where the shares have no room for another one.
    """
    if epoch - since + 1 >= MAX_EPOCH:
        raise ParameterError(
            "the shares of this key have been refreshed as often as they can be: renew them, with"
            " `veilmatch keyholder recover --renew`", got=epoch, expected=f"< {MAX_EPOCH + since - 1}",
        )  # fmt: skip
    return epoch + 1


# -- the decision ------------------------------------------------------------------------------------


def refresh_id_of(decision: bytes, key_id: bytes, epoch: int) -> bytes:
    """Return the 32-byte name of a refresh. decision: 32 random bytes of its leader; epoch: the one that it makes."""
    return digest("refresh decision", key_id, epoch, decision)


def is_decision(decision: bytes, refresh_id: bytes, key_id: bytes, epoch: int) -> bool:
    """Whether these bytes are the decision of its leader to use that refresh."""
    return len(decision) == DECISION_BYTES and refresh_id_of(decision, key_id, epoch) == refresh_id


# -- the common seed ---------------------------------------------------------------------------------


def commitment(name: RefreshName, contribution: bytes) -> bytes:
    """Return the plus holder's 32-byte commitment; it hides a contribution of 32 random bytes."""
    return name.digest("commitment", check_contribution(contribution))


def open_commitment(name: RefreshName, committed: bytes, contribution: bytes) -> bytes:
    """Return the contribution if it is what was committed to. Raises ProtocolError otherwise."""
    if commitment(name, contribution) != committed:
        raise ProtocolError("the contribution to the refresh is not the one committed to", got=name.pair)
    return contribution


def check_contribution(contribution: bytes) -> bytes:
    """Return a contribution of the right size. Raises ProtocolError for another one."""
    if len(contribution) != CONTRIBUTION_BYTES:
        raise ProtocolError("a contribution of the wrong size", got=len(contribution), expected=CONTRIBUTION_BYTES)
    return contribution


def common_seed(name: RefreshName, plus: bytes, minus: bytes) -> CommonSeed:
    """Return the common seed of both contributions. Raises ProtocolError for contributions that are equal.

    They are equal if somebody sends the other's back, which would not be a contribution.
    """
    if check_contribution(plus) == check_contribution(minus):
        raise ProtocolError("the peer contributed what it was sent", got=name.pair)
    return CommonSeed(name, name.digest("seed", plus, minus))


# -- shares ------------------------------------------------------------------------------------------


def refreshed_share(share: PairShare, seed: CommonSeed, public_key: PublicKey) -> PairShare:
    """Return the share of the next epoch: o_* + r with r of |o| + 128 bits, kappa_* + x mod N.

    Both holders of the pair add the same r and x. Raises KeyMismatchError if the seed is of another pair.
    """
    _require_pair(share.pair, seed)
    exponent = share.stored_exponent(SECRET_ACCESS) + seed.bits("o", public_key.randomiser_bits)
    kappa = (share.kappa(SECRET_ACCESS) + seed.below("kappa", public_key.modulus)) % public_key.modulus
    return PairShare(share.pair, share.party, exponent, kappa)


def refreshed_safety(share: SafetyShare, seed: CommonSeed, public_key: PublicKey) -> SafetyShare:
    """Return the part of the key-safety check of the next epoch: t_* + r of each direction, r of |o| + 256 bits.

    Gamma and tags stay. A tag is key + Gamma * kappa_q mod N of the prover's kappa_q, to which x is added
    (`refreshed_share`): so the verifier takes Gamma * x from its key. Raises KeyMismatchError for another pair's seed.
    """
    _require_pair(share.pair, seed)
    bits = public_key.randomiser_bits + GAMMA_BITS
    verifying, proving = (
        t + seed.bits(f"t {verifier} verifies", bits)
        for t, verifier in zip(share.stored_exponents(SECRET_ACCESS), _directions(share), strict=True)
    )
    x, gamma = seed.below("kappa", public_key.modulus), share.gamma(SECRET_ACCESS)
    key = (share.kappa_key(SECRET_ACCESS) - gamma * x) % public_key.modulus
    tag = share.kappa_tag(SECRET_ACCESS)
    return SafetyShare(share.pair, share.party, gamma, verifying, key, proving, tag)


def _directions(share: SafetyShare) -> tuple[str, str]:
    """Who verifies where this holder verifies, and where it proves."""
    return share.party, other_party(share.pair, share.party)


def _require_pair(pair: Pair, seed: CommonSeed) -> None:
    if seed.name.pair != pair:
        raise KeyMismatchError("a refresh of another pair", got=seed.name.pair, expected=pair)


def refreshed_key(
    key: KeyHolderKey, seeds: Mapping[Pair, CommonSeed], dealing_seed: bytes, public_key: PublicKey
) -> KeyHolderKey:
    """Return the key of the next epoch: what it shares with both peers refreshed, and another dealing seed.

    dealing_seed: 32 fresh random bytes of this party alone. With the old one, whoever had it could compute what this
    party deals to the pair of the others in the new epoch, and read a share from what one of them receives. The
    storage seed stays: it protects what lies beside the key file. Raises ParameterError at the last epoch,
    KeyMismatchError if a seed is of another epoch, key or pair, ProtocolError for a dealing seed of another size.
    """
    epoch = next_epoch(key.epoch, key.since)
    if len(dealing_seed) != SEED_BYTES:
        raise ProtocolError("a dealing seed of the wrong size", got=len(dealing_seed), expected=SEED_BYTES)
    for pair in pairs_of(key.party):
        name = seeds[pair].name
        if (name.key_id, name.epoch) != (key.key_id, epoch):
            raise KeyMismatchError("a refresh of another key or epoch", got=name.epoch, expected=epoch)
    first, second = (refreshed_share(key.share(p), seeds[p], public_key) for p in pairs_of(key.party))
    safety = [refreshed_safety(key.safety(p), seeds[p], public_key) for p in pairs_of(key.party)]
    return key.of_epoch(epoch, (first, second), (safety[0], safety[1]), dealing_seed, SECRET_ACCESS)


# -- test conversion ---------------------------------------------------------------------------------


def fit_hashes(old: Held, new: Held, seed: CommonSeed, scheme: Paillier, role: str) -> bytes:
    """Return the 160 bytes by which the holder of `role` ("plus" or "minus") shows that its new shares fit.

    new: as read back from where it is kept. Five hashes, bound to the role: of g mod N of a common fresh ciphertext
    under the new exponent, as in a session; of what was added to o, to kappa, and to t of each direction of the
    key-safety check. Equal fingerprints show that the new exponents convert; equal additions show that
    the differences of kappa and of t are what they were, which every session of the old epoch relied on. Nothing is
    opened: both holders know what they added, and g mod N is that of a ciphertext made for this test alone.
    """
    N, public_key = scheme.modulus, scheme.public_key
    # Made by both alike, so it is never sent.
    zero = power(public_key.hs, seed.bits("test randomiser", public_key.randomiser_bits), N * N)
    c = scheme.multiply(scheme.encode(seed.below("test plaintext", N)), zero)
    local = scheme.local_shares([c], new[0].exponent(public_key, SECRET_ACCESS))
    before, after = _integers(*old), _integers(*new)
    added = {what: after[what] - before[what] for what in sorted(before)}
    if min(added.values()) < 0:
        raise IntegrityError("a refreshed share is smaller than the one before", got=seed.name.pair)
    added["kappa"] = (new[0].kappa(SECRET_ACCESS) - old[0].kappa(SECRET_ACCESS)) % N
    size = public_key.parameters.ciphertext_bytes
    return fingerprint_hashes(local, seed.name.digest("test session"), role, N) + b"".join(
        seed.name.digest(f"test {what}", role.encode(), to_bytes(value, size)) for what, value in added.items()
    )


def _integers(share: PairShare, safety: SafetyShare) -> dict[str, Integer]:
    """What a holder has of differences over the integers, by labels that both holders use."""
    t = zip(_directions(safety), safety.stored_exponents(SECRET_ACCESS), strict=True)
    return {"o": share.stored_exponent(SECRET_ACCESS)} | {f"t {verifier} verifies": value for verifier, value in t}
