"""What is encrypted is what was meant; bulk packs come out alike with and without workers."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.client.conftest import PARAMETERS, faces
from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.operations import bulk, bulk_worker
from veilmatch.client.wire.encryption import EncryptedPack, Encryptor, groups
from veilmatch.crypto.errors import IntegrityError, ParameterError
from veilmatch.crypto.keys.ceremony import Ceremony
from veilmatch.crypto.packing import lanes, slots

Decrypt = Callable[[bytes], list[Any]]


@pytest.fixture(scope="module")
def encryptor(ceremony: Ceremony) -> Encryptor:
    return Encryptor(ceremony.public_key)


def templates(count: int) -> Any:
    return np.array([quantise(e, PARAMETERS) for e in faces(count)])


def check_packs(packs: list[EncryptedPack], expected: Any, decrypt: Decrypt) -> None:
    parts = [expected[g.start : g.stop] for g in groups(len(expected), PARAMETERS.slots)]
    assert len(packs) == len(parts)
    for pack, part in zip(packs, parts, strict=True):
        N = decrypt.modulus  # type: ignore[attr-defined]
        assert decrypt(pack.ciphertexts) == [m % N for m in slots.pack(part, PARAMETERS)]
        for record, template in zip(pack.records, part, strict=True):
            assert decrypt(record) == lanes.pack(template, PARAMETERS)


@pytest.fixture(autouse=True)
def _modulus(decrypt: Decrypt, ceremony: Ceremony) -> None:
    decrypt.modulus = ceremony.public_key.modulus  # type: ignore[attr-defined]


def test_lanes_hold_the_vector(encryptor: Encryptor, decrypt: Decrypt) -> None:
    vector = templates(1)[0]
    assert decrypt(b"".join(encryptor.lanes(vector).ciphertexts)) == lanes.pack(vector, PARAMETERS)


def test_every_ciphertext_is_fresh_and_of_its_length(encryptor: Encryptor) -> None:
    vector = templates(1)[0]
    first, second = (encryptor.lanes(vector).ciphertexts for _ in range(2))
    assert not set(first) & set(second)
    assert {len(c) for c in first} == {PARAMETERS.ciphertext_bytes}


def test_pack_holds_every_template_and_its_record(encryptor: Encryptor, decrypt: Decrypt) -> None:
    check_packs([encryptor.pack(templates(5))], templates(5), decrypt)


def test_more_templates_than_slots_do_not_fit(encryptor: Encryptor) -> None:
    with pytest.raises(ParameterError):
        encryptor.pack(templates(PARAMETERS.slots + 1))


def test_encrypted_pack_does_not_show_itself(encryptor: Encryptor) -> None:
    assert "object at" in repr(encryptor.pack(templates(1)))


@pytest.mark.parametrize("workers", [0, 2])
def test_packs_come_in_order(workers: int, encryptor: Encryptor, decrypt: Decrypt) -> None:
    expected = templates(2 * PARAMETERS.slots + 3)
    check_packs(list(bulk.encrypted_packs(encryptor, expected, workers)), expected, decrypt)


def test_worker_that_ends_early_is_reported(encryptor: Encryptor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk.sys, "executable", "/bin/false")
    with pytest.raises(IntegrityError, match="worker"):
        list(bulk.encrypted_packs(encryptor, templates(3), 1))


def test_closing_the_iterator_ends_the_workers(encryptor: Encryptor, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = bulk.subprocess.Popen
    monkeypatch.setattr(bulk.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    packs = bulk.encrypted_packs(encryptor, templates(3 * PARAMETERS.slots), 1)
    next(packs)
    packs.close()
    assert [p.returncode is not None for p in started] == [True]


def test_few_packs_need_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk.os, "sched_getaffinity", lambda pid: set(range(8)))
    assert [bulk.worker_count(packs, None) for packs in (1, 7, 8, 80)] == [0, 0, 2, 8]
    assert bulk.worker_count(80, 3) == 3
    assert bulk.worker_count(2, 3) == 2


def test_worker_answers_frames(ceremony: Ceremony, decrypt: Decrypt) -> None:
    source, sink, expected = io.BytesIO(), io.BytesIO(), templates(2)
    bulk.write_frame(source, bulk.encode_key(ceremony.public_key))
    bulk.write_frame(source, expected.astype(bulk.COORDINATE).tobytes())
    source.seek(0)
    bulk_worker.serve(source, sink)
    sink.seek(0)
    answer = bulk.read_frame(sink)
    assert answer is not None and bulk.read_frame(sink) is None
    cut = PARAMETERS.dimension * PARAMETERS.ciphertext_bytes
    assert decrypt(answer[cut:]) == [m for t in expected for m in lanes.pack(t, PARAMETERS)]


def test_cut_frame_is_noticed() -> None:
    stream = io.BytesIO()
    bulk.write_frame(stream, b"0123456789")
    for length in (4, 12):
        with pytest.raises(EOFError):
            bulk.read_frame(io.BytesIO(stream.getvalue()[:length]))
