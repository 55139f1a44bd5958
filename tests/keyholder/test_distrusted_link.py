"""A link whose other end may be somebody with a stolen key of a peer: the calling end lets go of it by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from tests.keyholder.trio import TOY, Trio, tls_of
from tests.simulator import unit_vectors
from veilmatch.common import watched
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.files import write_file
from veilmatch.server.transport.sign_of_life import sign_over
from veilmatch.server.transport.standing import ends

#: Links by the end that calls: how it is found, and what its daemon asks now and then.
CALLING: dict[str, Callable[[Trio], Any]] = {
    "keyholder-b": lambda trio: trio["b"].links._calling["a"],
    "matcher-a": lambda trio: trio.link("a"),
}
SIGNS: dict[str, Callable[[Trio], Any]] = {
    "keyholder-b": lambda trio: trio["b"].peers.gives_sign("a"),
    "matcher-a": lambda trio: sign_over(trio.channel("matcher-a", "a")),
}


class Stuck:
    """A session that does not end."""

    is_lost = False

    def lose(self, _why: object) -> None:
        self.is_lost = True


@pytest.mark.parametrize("name", CALLING)
async def test_a_link_ends_when_an_authority_that_it_was_made_under_is_trusted_no_more(
    name: str, trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The called ends here follow no files, as a thief would not."""
    monkeypatch.setattr(watched, "LOOK_S", 0.0)
    monkeypatch.setattr(ends, "_LAST_S", 1.0)
    (probe,) = unit_vectors(np.random.default_rng(3), 1, TOY)
    assert await trio.verify(probe, "ab", 1, [probe])
    link = CALLING[name](trio).link()
    file = tls_of(name, trio.folder).authority
    old, new = file.read_bytes(), Authority.fresh().certificate_pem()

    async def trusted(*authorities: bytes) -> None:
        write_file(file, b"".join(authorities))
        # As every daemon asks its neighbours every few seconds.
        with suppress(TimeoutError):
            await asyncio.wait_for(SIGNS[name](trio)(), 0.1)
        await asyncio.sleep(0.1)

    await trusted(old, new)
    assert await trio.verify(probe, "ab", 1, [probe])
    second = CALLING[name](trio).link()
    assert second is not link and link.is_lost, "what begins later goes on another link"
    stuck = Stuck()
    second._strands[1 << 20] = stuck
    await trusted(new)
    assert not second.is_lost, "what is under way may come to its end"
    await asyncio.sleep(1.2)
    assert second.is_lost and stuck.is_lost
    # Whoever shows a certificate of an authority that counts is met again.
    await trusted(new, old)
    assert await trio.verify(probe, "ab", 1, [probe])
    assert CALLING[name](trio).link() is not link
