"""Inputs that once ended in something else than a typed error."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from tests.installation.test_settings import FIELDS, KINDS, load
from veilmatch.client.operations.bulk import read_frame
from veilmatch.crypto.claims import ERROR_KEY
from veilmatch.crypto.errors import ConfigurationError, ProtocolError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.installation.certifying.registration import Configurations
from veilmatch.server.keyholder.audit.chain import decode
from veilmatch.server.matcher.query.keyholder_call import KeyHolderCall
from veilmatch.server.transport.sign_of_life import Owing
from veilmatch.server.transport.status import from_metadata

#: No TOML error for Python's parser: more digits than Python reads, more brackets than its stack is deep.
EXTREME_TOML = ["a = " + "9" * 5000, "a = " + "[" * 5000, "a = " + "{a = " * 3000]


@pytest.mark.parametrize("text", EXTREME_TOML, ids=lambda text: text[:8])
@pytest.mark.parametrize("kind", KINDS)
def test_extreme_toml_is_a_configuration_error(kind: Any, text: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(ConfigurationError, match="not TOML"):
        kind.load(tmp_path / "x.toml")


@pytest.mark.parametrize("text", EXTREME_TOML, ids=lambda text: text[:8])
def test_extreme_toml_of_another_party_ends_a_registration(text: str, tmp_path: Path) -> None:
    (tmp_path / "kiosk").mkdir()
    (tmp_path / "kiosk" / "device.toml").write_text(text)
    with pytest.raises(ConfigurationError, match="not TOML"):
        Configurations.read(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_with_a_nul_is_a_configuration_error(kind: Any, tmp_path: Path) -> None:
    for change in ({"public_key": "a\0b"}, {"tls": FIELDS[kind]["tls"] | {"key": "\0"}}):
        with pytest.raises(ConfigurationError, match="not a path"):
            load(kind, tmp_path, **change)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_an_audit_entry_that_is_nested_as_deeply_as_can_be_is_none(opening: bytes) -> None:
    """Some depths can be read and not written again; where they begin depends on the stack."""
    closing, middle = (b"]", b"") if opening == b"[" else (b"}", b"1")
    for depth in range(300, 1100):
        value = opening * depth + middle + closing * depth
        line = b'{"hash":"%s","prev":"%s","seq":0,"x":%s}' % (b"0" * 64, b"0" * 64, value)
        with pytest.raises(ValueError, match=r"not JSON|nested too deeply|was changed"):
            decode(line)


@pytest.mark.parametrize("length", [1 << 62, 1 << 63, (1 << 64) - 1, (1 << 26) + 1])
def test_a_frame_that_claims_a_huge_length_asks_for_no_memory(length: int) -> None:
    with pytest.raises(EOFError):
        read_frame(io.BufferedReader(io.BytesIO(length.to_bytes(8, "big") + b"short")))  # type: ignore[arg-type]


def test_an_error_that_cannot_be_written_down_is_passed_on_without_what_cannot() -> None:
    for fields in ({"code": "protocol", "message": "\ud800"}, {"code": "unavailable", "alternatives": ["\udfff"]}):
        metadata = ((ERROR_KEY, json.dumps(fields).encode()),)
        error = from_metadata(grpc.StatusCode.INTERNAL, metadata, "keyholder-b")
        assert error.code == fields["code"] and (error.message, error.alternatives) in (("?", ()), ("", ()))
        json.dumps(error.fields(), ensure_ascii=False).encode()


async def test_a_share_that_ends_within_a_number_is_refused() -> None:
    parameters = ParameterSet(12, 8, 3, 512)
    for message, said in (
        (pb.KeyHolderToMatcher(probe_share=pb.ProbeShareMessage(exponents=bytes(4 * 12 + 1))), "within a number"),
        (pb.KeyHolderToMatcher(template_share=pb.TemplateShareMessage(lanes=bytes(8 * 12 - 1))), "do not fit"),
    ):

        async def receive(message: pb.KeyHolderToMatcher = message) -> pb.KeyHolderToMatcher:
            return message

        call = KeyHolderCall(SimpleNamespace(receive=receive), parameters, 5, Owing("keyholder-a"), is_plus=False)  # type: ignore[arg-type]
        with pytest.raises(ProtocolError, match=said):
            await (call.template_shares(1, 0) if message.HasField("template_share") else call.probe_share())
