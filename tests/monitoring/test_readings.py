"""Readings for scrapes: made in the loop, old where it does not answer, and an error of ours ends no scrape."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from veilmatch.server.monitoring.monitor import Monitor
from veilmatch.server.monitoring.readings import GAUGES, PREFIX, Apart, Pulse, Readings, Snapshots


def names(snapshots: Snapshots) -> dict[str, float]:
    return {sample.name: sample.value for family in snapshots.collect() for sample in family.samples}


async def test_they_are_made_in_the_loop() -> None:
    seen: list[threading.Thread] = []

    def read() -> Readings:
        seen.append(threading.current_thread())
        return {"epoch": {(): 7.0}}

    found = await asyncio.to_thread(names, Snapshots(asyncio.get_running_loop(), read))
    assert found == {PREFIX + "epoch": 7.0, PREFIX + "loop_responds": 1.0}
    assert seen == [threading.current_thread()]


async def test_a_loop_that_does_not_answer_shows_the_last_ones_and_says_so() -> None:
    values = iter((1.0, 2.0, 3.0))
    snapshots = Snapshots(asyncio.get_running_loop(), lambda: {"epoch": {(): next(values)}}, within_s=0.2)
    await asyncio.to_thread(names, snapshots)
    asking = asyncio.get_running_loop().run_in_executor(None, names, snapshots)
    time.sleep(0.6)
    assert await asking == {PREFIX + "epoch": 1.0, PREFIX + "loop_responds": 0.0}
    # Whoever gave up is not answered later: no reading is made for nobody.
    assert await asyncio.to_thread(names, snapshots) == {PREFIX + "epoch": 2.0, PREFIX + "loop_responds": 1.0}


async def test_an_error_of_ours_is_said_once_without_its_text() -> None:
    def read() -> Readings:
        raise KeyError("zqxalice")

    snapshots = Snapshots(asyncio.get_running_loop(), read)
    with capture_logs() as lines:
        for _ in range(3):
            assert await asyncio.to_thread(names, snapshots) == {PREFIX + "loop_responds": 1.0}
    (line,) = lines
    assert line["log_level"] == "error" and line["got"] == "KeyError" and "zqx" not in json.dumps(line)


def test_a_loop_that_is_over_answers_nothing() -> None:
    loop = asyncio.new_event_loop()
    snapshots = Snapshots(loop, dict, within_s=0.1)
    loop.close()
    assert names(snapshots) == {PREFIX + "loop_responds": 0.0}


async def test_the_pulse_stops_with_the_loop() -> None:
    pulse = Pulse()
    beating = asyncio.ensure_future(pulse.beat())
    await asyncio.sleep(0.01)
    assert pulse.is_alive(0.5)
    time.sleep(0.6)
    assert not await asyncio.to_thread(pulse.is_alive, 0.5)
    beating.cancel()


def test_every_gauge_says_what_it_is() -> None:
    assert all(text.endswith((".", "always 1.")) for text, _ in GAUGES.values())


async def test_a_disk_that_hangs_holds_up_neither_the_loop_nor_later_scrapes() -> None:
    release, began = threading.Event(), list[threading.Thread]()

    def on_disk() -> Readings:
        began.append(threading.current_thread())
        release.wait()
        return {"disk_free_bytes": {(): 5.0}}

    epochs = count(1.0)
    snapshots = Snapshots(
        asyncio.get_running_loop(), lambda: {"epoch": {(): next(epochs)}}, apart=Apart(on_disk, within_s=0.1)
    )
    # The loop of this test answers all the while.
    for epoch in (1.0, 2.0, 3.0):
        found = await asyncio.to_thread(names, snapshots)
        assert found == {PREFIX + "epoch": epoch, PREFIX + "loop_responds": 1.0}
    (thread,) = began
    assert thread is not threading.current_thread()
    release.set()
    await asyncio.to_thread(thread.join)
    found = await asyncio.to_thread(names, snapshots)
    assert found == {PREFIX + "epoch": 4.0, PREFIX + "loop_responds": 1.0, PREFIX + "disk_free_bytes": 5.0}


async def test_what_cannot_be_read_apart_is_said_once_and_left_out() -> None:
    def on_disk() -> Readings:
        raise KeyError("zqxalice")

    snapshots = Snapshots(asyncio.get_running_loop(), lambda: {"epoch": {(): 1.0}}, apart=Apart(on_disk))
    with capture_logs() as lines:
        for _ in range(3):
            found = await asyncio.to_thread(names, snapshots)
            assert found == {PREFIX + "epoch": 1.0, PREFIX + "loop_responds": 1.0}
    (line,) = lines
    assert line["got"] == "KeyError" and "zqx" not in json.dumps(line)


async def test_no_file_is_looked_at_in_the_loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looked: list[tuple[str, threading.Thread]] = []

    def note(what: str) -> None:
        looked.append((what, threading.current_thread()))

    statvfs = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda path: note("disk") or statvfs(path))
    expiry = SimpleNamespace(ends=lambda: note("certificates") or {"authority": 9.0})
    view = SimpleNamespace(
        expiry=expiry, kind="matcher", party="a", served=(), parameters="toy", workers=1, conditions=set,
        readings=dict, neighbours=SimpleNamespace(by_name={}, said=lambda _: None),
    )  # fmt: skip
    monitor = Monitor(SimpleNamespace(data_dir=tmp_path, metrics=None, party_name="matcher-a"))  # type: ignore[arg-type]
    monitor.view = view  # type: ignore[assignment]
    found = await asyncio.to_thread(names, monitor._snapshots)
    assert found[PREFIX + "disk_free_bytes"] > 0 and found[PREFIX + "certificate_expiry_timestamp_seconds"] == 9.0
    assert [what for what, _ in looked] == ["disk", "certificates"]
    assert threading.current_thread() not in [thread for _, thread in looked]
