"""Damaged contents of the galleries here, replaced by those of another matcher: `veilmatch gallery mend`.

The log here says what each pack and template has to be, so whoever gives it need not be believed. Only what is damaged
is fetched, and nothing is forgotten: this matcher takes part as before. With its daemon stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any

from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.check.history import verify_history
from veilmatch.server.config import MatcherSettings
from veilmatch.server.matcher.follow.catching_up import Patience, parts
from veilmatch.server.matcher.follow.fetching import stubs_of
from veilmatch.server.matcher.follow.serving import AtOnce
from veilmatch.server.matcher.follow.standing import places_of
from veilmatch.server.matcher.gallery.body import pack_leaf, template_leaf
from veilmatch.server.matcher.gallery.disk.database import is_there
from veilmatch.server.matcher.gallery.disk.mending import Differing
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.mutation import GalleryState
from veilmatch.server.transport.daemon import sole_owner


@dataclass
class Mended:
    """What became of one gallery. packs, templates: how many were replaced. left: how many are still damaged.

    broken: what else is wrong, in words, which no content mends. failed: why a matcher gave nothing.
    """

    gallery: str
    key_id: bytes
    packs: int = 0
    templates: int = 0
    left: int = 0
    broken: str | None = None
    failed: dict[Party, VeilmatchError] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged any more."""
        return not self.left and self.broken is None


async def mend(settings: MatcherSettings, told: Callable[[str], None]) -> list[Mended]:
    """Replace every damaged pack, record and subject here; `told` is called with lines about it.

    Raises ConfigurationError if the daemon runs; IntegrityError if the log itself is damaged, or the database is.
    """
    found: list[Mended] = []
    async with stubs_of(settings) as stubs:
        for public, where, data_dir, is_new in places_of(settings):
            with ExitStack() as stack:
                stack.enter_context(sole_owner(data_dir))
                if not is_there(where):
                    continue
                key = public.public_key
                store = Store(where, key.key_id, key.parameters, rotating=is_new, party=settings.party_name)
                stack.callback(store.close)
                for name in store.galleries():
                    found.append(await _mend(store, name, store.state(name), key.parameters, stubs, told))
            # Also what no checksum shows: each certificate, and that nothing is there that no change brought.
            for history in verify_history(where, key, public.signer):
                for one in found:
                    if (one.gallery, one.key_id) == (history.gallery, history.key_id) and not one.left:
                        one.broken = history.broken
    return found


async def _mend(
    store: Store,
    name: str,
    state: GalleryState,
    parameters: ParameterSet,
    stubs: dict[Party, rpc.MatcherPeerAsyncStub],
    told: Callable[[str], None],
) -> Mended:
    mended, damaged = Mended(name, store.key_id), store.differing(name)
    if damaged:
        told(f"gallery {name}: {len(damaged.packs)} packs and {len(damaged.templates)} templates are damaged")
    for party, stub in stubs.items():
        try:
            for request in _requests(store, name, state, parameters, damaged):
                async with aclosing(parts(stub.Changes(request), Patience(f"matcher-{party}"))) as answer:
                    async for part in answer:
                        if part.log or part.HasField("head"):
                            break
                        packs, templates = _right(part, damaged)
                        store.mend(name, packs, templates)
                        mended.packs += len(packs)
                        mended.templates += len(templates)
        except VeilmatchError as error:
            mended.failed[party] = error
        if not damaged:
            mended.failed.clear()
            break
    mended.left = len(damaged)
    return mended


def _requests(
    store: Store, name: str, state: GalleryState, parameters: ParameterSet, damaged: Differing
) -> Iterator[pb.ChangesRequest]:
    """Yield requests for what is damaged, as much at once as is served."""
    most = AtOnce.of(parameters)
    gallery = pb.WatchedGallery(gallery=name, key_id=store.key_id)
    at: dict[str, Any] = {"gallery": gallery, "sequence": state.sequence, "chain": state.chain}
    for numbers in _cut(sorted(damaged.packs), most.packs):
        yield pb.ChangesRequest(**at, packs=numbers)
    for places in _cut(sorted(damaged.templates), most.templates):
        yield pb.ChangesRequest(**at, templates=[pb.GalleryPlace(pack=pack, slot=slot) for pack, slot in places])


def _cut(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _right(
    part: pb.ChangePart, damaged: Differing
) -> tuple[dict[int, bytes], dict[tuple[int, int], tuple[str, bytes, bytes]]]:
    """Return what of a part is what the log here names, and count it as damaged no more."""
    packs = {one.pack: one.data for one in part.packs if damaged.packs.get(one.pack) == pack_leaf(one.data)}
    templates = {}
    for one in part.templates:
        place = one.place.pack, one.place.slot
        if damaged.templates.get(place) == template_leaf(one.subject, one.data, one.terms):
            templates[place] = one.subject, one.data, one.terms
    for number in packs:
        del damaged.packs[number]
    for place in templates:
        del damaged.templates[place]
    return packs, templates
