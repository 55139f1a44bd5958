"""The other matcher sends what is no ciphertext: the error names it, and pairs that can do without it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.crypto.toys import TOY
from tests.matcher.cluster.packed import SCHEME, Packed
from tests.matcher.test_searching import Query, exponents
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.errors import CiphertextError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.change import mutating
from veilmatch.server.matcher.change.making import contents
from veilmatch.server.matcher.query.keyholder_call import TemplateShares

N, SIZE = SCHEME.modulus, TOY.ciphertext_bytes
#: Packs of a search: so few are divided one by one, so many in groups.
PACKS = (2, 40)


def meeting_with(theirs: Any) -> Meeting:
    """A meeting in which the other matcher sends this, whatever is swapped."""
    met = Meeting(
        None, pb.MatcherMessage(), leads=True, party="matcher-a", peer="matcher-b", timeout_s=1.0,  # type: ignore[arg-type]
        alternatives=("ac",),
    )  # fmt: skip

    async def swap(*_: Any) -> Any:
        return theirs

    async def swap_results(_: bytes, made: Any, count: int, size: int, take: Any) -> None:
        at = 0
        async for mine in made:
            await take(mine, theirs[at : at + len(mine)])
            at += len(mine)
        assert at == count

    met.swap_columns, met.swap_results = swap, swap_results  # type: ignore[method-assign]
    return met


def numbers(count: int, *, bad: int) -> list[bytes]:
    good = [SCHEME.serialise(c) for c in SCHEME.encrypt_many([Integer(1)] * count)]
    good[bad] = SCHEME.serialise(3 * N)
    return good


def named(error: CiphertextError) -> bool:
    return (error.party, error.alternatives) == ("matcher-b", ("ac",))


@pytest.mark.parametrize("is_plus", [True, False])
@pytest.mark.parametrize("count", PACKS)
async def test_a_result_of_a_search(count: int, is_plus: bool, tmp_path: Path) -> None:
    query = Query(await Packed(tmp_path, count).open(), exponents(), keeps=True)
    query.meeting, query.is_plus = meeting_with(numbers(count, bad=count - 1)), is_plus
    query.go_on.set()
    with pytest.raises(CiphertextError) as caught:
        await query.ask()
    assert named(caught.value)


class Workers:
    """Make parts of the right size."""

    async def column(self, *_: Any, **__: Any) -> bytes:
        return SCHEME.serialise(Integer(1)) * TOY.dimension

    async def record(self, *_: Any, **__: Any) -> bytes:
        return SCHEME.serialise(Integer(1)) * TOY.lane_ciphertexts


@pytest.mark.parametrize("at", [0, TOY.dimension + TOY.lane_ciphertexts - 1], ids=["column", "record"])
async def test_a_part_of_a_template(at: int) -> None:
    share = TemplateShares(b"", np.zeros((1, TOY.dimension), dtype=np.uint64), b"")
    theirs = b"".join(numbers(TOY.dimension + TOY.lane_ciphertexts, bad=at))
    with pytest.raises(CiphertextError) as caught:
        await contents(share, [(0, 0)], SCHEME, Workers(), meeting_with(theirs), is_plus=True)  # type: ignore[arg-type]
    assert named(caught.value)


async def test_a_part_of_what_is_erased() -> None:
    share = TemplateShares(b"", np.zeros((1, TOY.dimension), dtype=np.uint64), b"")

    class Session:
        async def __aenter__(self) -> Session:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def template_shares(self, *_: Any, **__: Any) -> TemplateShares:
            return share

    on: Any = SimpleNamespace(
        scheme=SCHEME, workers=Workers(), is_plus=lambda pair: True, open_session=lambda *_: Session()
    )
    met = meeting_with(b"".join(numbers(TOY.dimension, bad=0)))
    gallery: Any = SimpleNamespace(state=None, number=0)
    with pytest.raises(CiphertextError) as caught:
        await mutating._without([(0, 0)], [], SimpleNamespace(pair="ab"), None, met, gallery, on)  # type: ignore[arg-type]
    assert named(caught.value)
