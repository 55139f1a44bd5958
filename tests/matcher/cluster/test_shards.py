"""Shards answer for the state they are asked for or not at all, whatever they read; without Ray, in this process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.matcher.cluster.packed import NAMES, PACKS, PUBLIC_KEY, Here, Packed, exponents
from veilmatch.crypto.dealing import Words
from veilmatch.crypto.errors import IntegrityError, UnavailableError
from veilmatch.server.matcher.cluster import wire
from veilmatch.server.matcher.cluster.actor import ShardActor
from veilmatch.server.matcher.cluster.shard import RUN, Part, State, shard_of
from veilmatch.server.matcher.gallery.mutation import GalleryState


@pytest.fixture
async def packed(tmp_path: Path) -> Packed:
    return await Packed(tmp_path).open()


async def test_three_shards_answer_as_the_integers_do_and_as_threads_do(packed: Packed) -> None:
    actors = Here(packed.folder, 3)
    cluster = packed.on(actors)
    await packed.check(cluster)
    await packed.check(cluster, [PACKS - 1, 0, 17])
    assert "put" not in actors.asked  # they have read the file by themselves


async def test_another_machine_does_not_open_the_file_and_is_filled_by_the_matcher(packed: Packed) -> None:
    actors = Here(packed.folder, 2, machine="another")
    await packed.check(packed.on(actors))
    assert {"extend", "put"} <= set(actors.asked)


@pytest.mark.parametrize("machine", [None, "another"])
async def test_changes_are_followed(packed: Packed, machine: str | None) -> None:
    cluster = packed.on(Here(packed.folder, 2, machine))
    await packed.check(cluster)
    await packed.change([0, 9, PACKS])
    await packed.change([9, 16, PACKS + 1])
    await packed.check(cluster)


async def test_a_shard_that_lags_or_is_ahead_refuses(packed: Packed) -> None:
    actors = Here(packed.folder, 1)
    cluster = packed.on(actors, wait_s=0.5)
    await packed.check(cluster)
    old = packed.gallery.state
    await packed.change([3])
    now = packed.gallery.state
    for state in (now, GalleryState(old.sequence, bytes(32)), GalleryState(old.sequence + 7, old.chain)):
        with pytest.raises(UnavailableError, match="another state"):
            await ask_match(actors.actors[0], State(state.sequence, state.chain), [3])
    await packed.check(cluster)  # it catches up
    with pytest.raises(UnavailableError, match="misses a shard") as caught:
        await anext(cluster.match(0, old, [3], exponents()))
    assert caught.value.party == "matcher-a" and caught.value.alternatives == ("bc",)


async def test_a_shard_with_packs_missing_refuses_until_it_has_them(packed: Packed) -> None:
    actors = Here(packed.folder, 1, machine="another")
    state = State(packed.gallery.state.sequence, packed.gallery.state.chain)
    actor = actors.actors[0]
    changes = packed.store.changes_after(NAMES[0], 0)
    bodies = wire.join([(change.sequence, change.body) for change in changes])
    status = wire.Status.decode(wire.opened(await actor.extend(wire.head(0, state), bodies)))
    assert status.state == state and status.packs == PACKS and status.missing == tuple(range(16))
    with pytest.raises(UnavailableError, match="another state"):
        await ask_match(actor, state, [0])


async def test_contents_and_logs_of_another_state_are_not_taken(packed: Packed) -> None:
    """Without the look at leaves, the answer would be about another pack."""
    actor = Here(packed.folder, 1, machine="another").actors[0]
    state = State(packed.gallery.state.sequence, packed.gallery.state.chain)
    changes = packed.store.changes_after(NAMES[0], 0)
    bodies = [(change.sequence, change.body) for change in changes]
    for wrong in (bodies[:-1], bodies[1:], [*bodies[:-1], (bodies[-1][0], bodies[0][1])]):
        with pytest.raises(IntegrityError):
            wire.opened(await actor.extend(wire.head(0, state), wire.join(wrong)))
    wire.opened(await actor.extend(wire.head(0, state), wire.join(bodies)))
    [(_, other)] = packed.store.packs_at(NAMES[0], [1])
    with pytest.raises(UnavailableError, match="a pack of another state"):
        wire.opened(await actor.put(wire.head(0, state), wire.join([(0, other)])))


async def test_a_file_that_is_not_the_matchers_is_not_believed(packed: Packed, tmp_path: Path) -> None:
    theirs = await Packed(tmp_path / "theirs").open()
    actors = Here(theirs.folder, 2)
    await packed.check(packed.on(actors))
    assert "put" in actors.asked


async def test_a_shard_that_was_lost_is_filled_before_a_query_needs_it(packed: Packed) -> None:
    actors = Here(packed.folder, 2)
    cluster = packed.on(actors)
    async with cluster.following({NAMES[0]: packed.gallery}):
        await packed.check(cluster)
        actors.actors[1] = actors.fresh(1, 2)
        state = State(packed.gallery.state.sequence, packed.gallery.state.chain)
        async with asyncio.timeout(20):
            while not actors.actors[1]._shard.is_at(0, state):
                await asyncio.sleep(0.05)
        await packed.check(cluster)


async def test_what_is_not_asked_of_shards_is_done_here(packed: Packed) -> None:
    cluster = packed.on(Here(packed.folder, 1))
    values: Words = exponents().astype("<u8")
    column = await cluster.column(values, 3, is_plus=True, erase=False)
    record = await cluster.record(values, is_plus=True)
    size, parameters = PUBLIC_KEY.parameters.ciphertext_bytes, PUBLIC_KEY.parameters
    assert (len(column), len(record)) == (size * parameters.dimension, size * parameters.lane_ciphertexts)
    assert await cluster.apply(0, 5, [column]) == await packed.here.apply(0, 5, [column])
    assert await cluster.apply(0, 500, [column]) == await packed.here.apply(0, 500, [column])


async def test_no_exception_leaves_an_actor(packed: Packed) -> None:
    actor = Here(packed.folder, 1).actors[0]
    with pytest.raises(IntegrityError, match="a shard failed"):
        wire.opened(await actor.match(b"short", b"", b""))


def test_parts_are_whole_and_apart() -> None:
    for count in (1, 2, 3, 7):
        parts = [Part(index, count) for index in range(count)]
        held: list[set[int]] = [set() for _ in parts]
        for pack in range(10 * RUN * count + 3):
            [part] = [part for part in parts if part.holds(pack)]
            assert part.index == shard_of(pack, count) and part.within(pack) not in held[part.index]
            held[part.index].add(part.within(pack))
        assert all(numbers == set(range(len(numbers))) for numbers in held)
        assert max(map(len, held)) - min(map(len, held)) <= RUN


async def ask_match(actor: ShardActor, state: State, packs: list[int]) -> bytes:
    import numpy as np

    numbers = np.array(packs, dtype=">u4").tobytes()
    return wire.opened(await actor.match(wire.head(0, state), numbers, exponents().astype("<i8").tobytes()))


async def test_a_silent_shard_keeps_no_other_one_from_being_filled(packed: Packed) -> None:
    actors = Here(packed.folder, 2)

    async def silent(*_: bytes) -> bytes:
        return await asyncio.Event().wait() and b""

    actors.actors[0].follow = actors.actors[0].match = silent  # type: ignore[method-assign,assignment]
    cluster = packed.on(actors, wait_s=0.5)
    state = State(packed.gallery.state.sequence, packed.gallery.state.chain)
    async with cluster.following({NAMES[0]: packed.gallery}):
        async with asyncio.timeout(20):
            while not actors.actors[1]._shard.is_at(0, state):
                await asyncio.sleep(0.05)
        with pytest.raises(UnavailableError, match="misses a shard"):
            await packed.check(cluster)
    await packed.check(cluster, [pack for pack in packed.clear if shard_of(pack, 2) == 1])
