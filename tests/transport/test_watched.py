"""Files that are looked at before a call: on a disk that hangs nobody waits for them twice."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from veilmatch.common.watched import Watched


def test_a_disk_that_hangs_is_not_waited_for_and_what_it_says_late_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, answers, lookers = tmp_path / "tls.pem", threading.Event(), list[threading.Thread]()
    file.write_bytes(b"one")
    watched = Watched([file], within_s=0.05)
    stat = Path.stat

    def hanging(path: Path) -> Any:
        lookers.append(threading.current_thread())
        answers.wait()
        return stat(path)

    file.write_bytes(b"two, which is longer")
    monkeypatch.setattr(Path, "stat", hanging)
    assert [watched.changed(at_once=True) for _ in range(3)] == [False] * 3
    (looker,) = lookers
    answers.set()
    looker.join()
    assert looker is not threading.current_thread()
    assert watched.changed(at_once=True) and not watched.changed(at_once=True)
