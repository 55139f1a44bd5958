"""From shared o and kappa to each party's key: handed out (handing_out.py), and tested by each pair (pair_check.py).

For a key that was just made, and for new shares of one that is there (renewal.py). Of three pairs one is honest: every
pair tests its shares, and everybody breaks off if one pair does.
"""

from __future__ import annotations

from dataclasses import dataclass

from veilmatch.crypto.ceremony.handing_out import PairPart, SafetyPart, hand_out_safety, hand_out_shares, holders
from veilmatch.crypto.ceremony.joint.pair_check import check_shares, deal_to
from veilmatch.crypto.ceremony.rounds import Steps, together
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.encryption.paillier import Paillier, PublicKey
from veilmatch.crypto.keys.parties import PAIRS, Pair, Party, dealer_of, other_party, pairs_of
from veilmatch.crypto.keys.shares import DealerGammas, KeyHolderKey, PairShare, SafetyShare
from veilmatch.crypto.secret_access import SECRET_ACCESS, SecretHolder


@dataclass(frozen=True, slots=True, repr=False)
class Secrets(SecretHolder):
    """One party's part of o, as an integer modulo `Sizes.room`, and of kappa = 1/o mod N."""

    o: Shared
    kappa: Shared


@dataclass(frozen=True, slots=True, repr=False)
class Own(SecretHolder):
    """What a party puts into its key by itself: two seeds of 32 bytes, and the epoch in which the shares are dealt."""

    dealing_seed: bytes
    storage_seed: bytes
    epoch: int = 1


def dealt_key(seat: Seat, public_key: PublicKey, shared: Secrets, own: Own) -> Steps[KeyHolderKey]:
    """Return this party's key: fresh shares, Gammas and tags of all pairs it is in, tested. Fourteen rounds.

    Raises IntegrityError or KeySafetyError if a pair's shares do not convert, ProtocolError if something was opened
    wrongly. Nothing of it may be used then.
    """
    key = yield from _handed_out(seat.named("key"), public_key, shared, own)
    scheme = Paillier(public_key)
    yield from together([
        check_shares(seat.named(f"check {pair}"), key.share(pair), key.safety(pair), scheme)
        if seat.party in pair
        else deal_to(seat.named(f"check {pair}"), pair, key.dealer_gammas(SECRET_ACCESS), scheme)
        for pair in PAIRS
    ])  # fmt: skip
    return key


def _handed_out(seat: Seat, public_key: PublicKey, shared: Secrets, own: Own) -> Steps[KeyHolderKey]:
    bits = public_key.subgroup_order_bits
    parts = yield from together([
        hand_out_shares(seat.named(pair), pair, shared.o, shared.kappa, bits) for pair in PAIRS
    ])  # fmt: skip
    directions = [(pair, party, part) for pair, part in zip(PAIRS, parts, strict=True) for party in holders(pair)]
    safety = yield from together([
        hand_out_safety(seat.named(f"{pair} {verifier}"), pair, verifier, shared.o, part.kappas, bits)
        for pair, verifier, part in directions
    ])  # fmt: skip
    by_direction = {(pair, verifier): x for (pair, verifier, _), x in zip(directions, safety, strict=True)}
    return _key(seat.party, public_key, dict(zip(PAIRS, parts, strict=True)), by_direction, own)


def _key(
    party: Party,
    public_key: PublicKey,
    shares: dict[Pair, PairPart],
    safety: dict[tuple[Pair, Party], SafetyPart],
    own: Own,
) -> KeyHolderKey:
    """What this party keeps of what was handed out."""
    pair_shares, checks = [], []
    for pair in pairs_of(party):
        pair_shares.append(PairShare(pair, party, *shares[pair].mine))
        verifying, proving = safety[pair, party], safety[pair, other_party(pair, party)]
        checks.append(
            SafetyShare(pair, party, *verifying.gamma, *verifying.t, *verifying.key, *proving.t, *proving.tag)
        )
    (dealt,) = (pair for pair in PAIRS if dealer_of(pair) == party)
    gammas = DealerGammas(*(x for verifier in holders(dealt) for x in safety[dealt, verifier].gamma))
    return KeyHolderKey(
        party, public_key.key_id, own.epoch, (pair_shares[0], pair_shares[1]), (checks[0], checks[1]), gammas,
        own.dealing_seed, own.storage_seed, own.epoch,
    )  # fmt: skip
