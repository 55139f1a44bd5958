"""What three parties do with replicated numbers (shared.py): share, multiply, open.

A product and what one party shares cost a round, and everything that is sent is uniform for its receiver. A party
that deviates can add an error to a product, which does not depend on the factors, and nothing more (Genkin, Ishai,
Prabhakaran, Sahai, Tromer, STOC 2014): the checks that follow (biprimality.py, generator.py, joint/) are for such
errors. What it opens wrongly is noticed, because another party has the same share.
Araki, Furukawa, Lindell, Nof, Ohara, CCS 2016, section 2.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony.rounds import Round, Steps, packed, size_below, together, unpacked
from veilmatch.crypto.ceremony.seats import Seat, ahead_of, behind_of
from veilmatch.crypto.ceremony.shared import Shared, local_products
from veilmatch.crypto.digests import DIGEST_BYTES
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.keys.parties import PARTIES, Party


def random_numbers(seat: Seat, count: int, modulus: Integer) -> Shared:
    """Return uniform residues that nobody knows, without a word."""
    return Shared(
        seat.party,
        seat.common(seat.behind, "random").below(count, modulus),
        seat.common(seat.ahead, "random").below(count, modulus),
        modulus,
    )


def share(seat: Seat, owner: Party, values: Sequence[Integer], count: int, modulus: Integer) -> Steps[Shared]:
    """Share what `owner` alone knows: `count` residues, `values` there and empty elsewhere. One round.

    The share that the owner has with the party behind is drawn from their stream, the other one is sent ahead.
    """
    nothing = [Integer(0)] * count
    if seat.party == owner:
        drawn = seat.common(seat.behind, "shared").below(count, modulus)
        rest = [(x - mask) % modulus for x, mask in zip(values, drawn, strict=True)]
        yield Round({seat.ahead: packed(rest, modulus)})
        return Shared(owner, drawn, rest, modulus)
    if seat.ahead == owner:
        yield Round()
        return Shared(seat.party, nothing, seat.common(owner, "shared").below(count, modulus), modulus)
    received = yield Round(awaited={owner: count * size_below(modulus)})
    return Shared(seat.party, unpacked(received.sent[owner], modulus), nothing, modulus)


def multiply(seat: Seat, x: Shared, y: Shared) -> Steps[Shared]:
    """Return x*y modulo their modulus. One round: each party sends one number ahead, masked by a share of zero."""
    modulus = _common_modulus(x, y)
    zeros = zip(
        seat.common(seat.ahead, "zero").below(len(x), modulus),
        seat.common(seat.behind, "zero").below(len(x), modulus),
        strict=True,
    )
    made = [(part + f - g) % modulus for part, (f, g) in zip(local_products(x, y), zeros, strict=True)]
    received = yield Round({seat.ahead: packed(made, modulus)}, {seat.behind: len(x) * size_below(modulus)})
    return Shared(seat.party, unpacked(received.sent[seat.behind], modulus), made, modulus)


def open_to(seat: Seat, x: Shared, receiver: Party) -> Steps[list[Integer]]:
    """Return the numbers at the receiver, nothing at the others. One round.

    Both others have the share that it lacks: the one ahead of it sends it, the one behind a hash of it. Raises
    ProtocolError if the two disagree: one of them deviates.
    """
    modulus = _common_modulus(x, x)
    if seat.party == ahead_of(receiver):
        yield Round({receiver: packed(x.ahead, modulus)})
        return []
    if seat.party == behind_of(receiver):
        yield Round({receiver: _hash(seat, receiver, packed(x.behind, modulus))})
        return []
    received = yield Round(awaited={seat.ahead: len(x) * size_below(modulus), seat.behind: DIGEST_BYTES})
    data = received.sent[seat.ahead]
    if not hmac.compare_digest(_hash(seat, receiver, data), received.sent[seat.behind]):
        raise ProtocolError("two key holders have different shares of one number, which both of them have")
    return [
        (missing + behind + ahead) % modulus
        for missing, behind, ahead in zip(unpacked(data, modulus), x.behind, x.ahead, strict=True)
    ]


def open_to_all(seat: Seat, x: Shared) -> Steps[list[Integer]]:
    """Return the numbers at all three. One round; raises as `open_to` does."""
    opened = yield from together([open_to(seat, x, party) for party in PARTIES])
    return opened[PARTIES.index(seat.party)]


def _hash(seat: Seat, receiver: Party, data: bytes) -> bytes:
    return seat.digest("opened share", receiver, data)


def _common_modulus(x: Shared, y: Shared) -> Integer:
    if x.modulus is None or x.modulus != y.modulus:
        raise ValueError("only residues modulo one number are multiplied and opened")
    return x.modulus
