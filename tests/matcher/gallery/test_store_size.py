"""Ten thousand identities at full size: what is large is written once and loaded fast."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path

from tests.matcher.galleries import KEY_ID, accept, commit
from veilmatch.crypto.parameters import DEFAULT
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.index import SlotIndex
from veilmatch.server.matcher.gallery.mutation import Mutation, Template

IDENTITIES = 10_000


def bytes_written() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


def test_ten_thousand_identities(tmp_path: Path) -> None:
    places = [divmod(i, DEFAULT.slots) for i in range(IDENTITIES)]
    pack_bytes = DEFAULT.dimension * DEFAULT.ciphertext_bytes
    record_bytes = DEFAULT.lane_ciphertexts * DEFAULT.ciphertext_bytes
    packs = {pack: os.urandom(pack_bytes) for pack in range(places[-1][0] + 1)}
    added = [Template(p, s, f"subject {p}/{s}", os.urandom(record_bytes), by_device=True) for p, s in places]
    bulk = Mutation("bulk", b"token", b"digest", packs, added, [], "{}", "model", "device")
    size = len(packs) * pack_bytes + len(added) * record_bytes

    with closing(Store(tmp_path, KEY_ID, DEFAULT)) as store:
        store.open_gallery("staff")
        start = bytes_written()
        accept(store, "staff", bulk)
        accepted = bytes_written()
        commit(store, "staff")
        committed = bytes_written()
    assert accepted - start > size
    assert committed - accepted < size / 50

    started = time.process_time()
    with closing(Store(tmp_path, KEY_ID, DEFAULT)) as store:
        store.open_gallery("staff")
        loaded = dict(store.packs("staff"))
        index = SlotIndex.load(DEFAULT.slots, len(loaded), store.templates("staff"))
        duration_s = time.process_time() - started
        assert store.record("staff", *places[-1]).ciphertexts == added[-1].record
    assert loaded == packs
    assert len(index) == IDENTITIES
    # About 0.1 s of computing.
    assert duration_s < 1
