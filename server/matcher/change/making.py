"""Making templates from both matchers' shares of them: columns of packs, and records.

Each matcher encrypts its own part, both exchange and multiply: nobody sees a vector, and both have re-randomised
everything. A record made like this is a valid vector or zero by construction. docs/protocol.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from veilmatch.crypto.dealing import Words
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.query.keyholder_call import TemplateShares
from veilmatch.server.matcher.query.packs import Packs
from veilmatch.server.matcher.query.records import pieces

Place = tuple[int, int]
#: What one template's encryption may take at the other matcher, generously: for time-outs only.
_TEMPLATE_S = 2.0


async def contents(
    share: TemplateShares,
    places: Sequence[Place],
    scheme: Paillier,
    workers: Packs,
    meeting: Meeting,
    *,
    is_plus: bool,
) -> list[tuple[list[bytes], bytes]]:
    """Make templates with the other matcher: both parts of the column of each, and its record made of both parts.

    Each matcher encrypts its own part under the key of `scheme`, so that what comes out holds the sum of both shares
    and is re-randomised by both.
    """
    mine = await asyncio.gather(
        *(_part(values, slot, workers, is_plus=is_plus) for values, (_, slot) in zip(share.values, places, strict=True))
    )
    received = await meeting.swap_columns(share.session_id, b"".join(mine), _TEMPLATE_S * len(places))
    size, at = scheme.parameters.ciphertext_bytes, scheme.parameters.dimension * scheme.parameters.ciphertext_bytes
    with meeting.of_peer():
        await asyncio.to_thread(scheme.parse_many, pieces(received, size))
    made = []
    for own, other in zip(mine, pieces(received, len(mine[0])), strict=True):
        made.append(([own[:at], other[:at]], _joined(own[at:], other[at:], scheme)))
    return made


async def record_of(
    share: TemplateShares, scheme: Paillier, workers: Packs, meeting: Meeting, *, is_plus: bool
) -> bytes:
    """Make the record of one template with the other matcher, in the same way, and no column."""
    mine = await workers.record(share.values[0], is_plus=is_plus)
    received = await meeting.swap_columns(share.session_id, mine, _TEMPLATE_S)
    with meeting.of_peer():
        return await asyncio.to_thread(_joined, mine, received, scheme)


def _joined(own: bytes, other: bytes, scheme: Paillier) -> bytes:
    """Return the record that two parts of it make. Raises CiphertextError if one is none."""
    size = scheme.parameters.ciphertext_bytes
    factors = (scheme.parse_many(pieces(part, size)) for part in (own, other))
    return b"".join(scheme.serialise(scheme.multiply(x, y)) for x, y in zip(*factors, strict=True))


async def _part(values: Words, slot: int, workers: Packs, *, is_plus: bool) -> bytes:
    """Return this matcher's part of one template: D ciphertexts of its column, then those of its record."""
    column, record = await asyncio.gather(
        workers.column(values, slot, is_plus=is_plus, erase=False), workers.record(values, is_plus=is_plus)
    )
    return column + record
