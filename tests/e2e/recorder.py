"""Notes what every daemon receives over gRPC: who, which message, and how long each part of it is.

`recording(folder)` gives the environment in which daemons start with the recorder in them; nothing else of them
changes. Dealt randomness is left out, because it is fetched ahead of time, whenever the stock is low.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER_VARIABLE = "RECORDED_MESSAGES"
_NOT_OF_A_QUERY = {"DealRequest", "DealtBlock", "StockGeneration", "HealthCheckRequest", "HealthCheckResponse"}
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")

#: What one party received or sent, by (party, direction and type): messages of one type come in order.
Traffic = dict[tuple[str, str], list[Any]]


def recording(folder: Path) -> dict[str, str]:
    """Return what to add to the environment of daemons, so that they note their messages in `folder`."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("from tests.e2e import recorder\n\nrecorder.install()\n")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", FOLDER_VARIABLE: str(folder)}


def recorded(folder: Path) -> Traffic:
    """Return what was noted since the last call."""
    found: Traffic = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            what, content = json.loads(line)
            found.setdefault((path.stem, what), []).append(content)
        os.truncate(path, 0)
    return found


def shape(message: Any) -> Any:
    """The names of a message's fields with the lengths of what is in them; of numbers, that there is one."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            found[field.name] = [_size(item) for item in value]
        elif not field.has_presence or message.HasField(field.name):
            found[field.name] = _size(value)
    return found


def _size(value: Any) -> Any:
    if hasattr(value, "DESCRIPTOR"):
        return shape(value)
    return len(value) if isinstance(value, bytes | str) else "number"


def install() -> None:
    """Note what this process receives and answers from now on."""
    import grpc
    import grpc.aio._channel as channels

    party = next((Path(x).parent.name for x in sys.orig_argv if x.endswith(".toml")), "nobody")
    target = os.open(Path(os.environ[FOLDER_VARIABLE]) / f"{party}.jsonl", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def note(direction: str, message: Any) -> None:
        kind = type(message).__name__
        if kind not in _NOT_OF_A_QUERY:
            os.write(target, json.dumps([f"{direction} {kind}", shape(message)]).encode() + b"\n")

    def reading(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        def parsed(data: bytes) -> Any:
            message = parse(data)
            note("receives", message)
            return message

        return parsed

    def writing(serialise: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        def serialised(message: Any) -> bytes:
            note("answers", message)
            return serialise(message)

        return serialised

    def handling(make: Any) -> Any:
        def made(behavior: Any, request_deserializer: Any = None, response_serializer: Any = None) -> Any:
            return make(behavior, reading(request_deserializer), writing(response_serializer))

        return made

    def calling(make: Any) -> Any:
        def made(self: Any, method: str, request_serializer: Any = None, response_deserializer: Any = None, *more: Any,
                 **options: Any) -> Any:  # fmt: skip
            return make(self, method, request_serializer, reading(response_deserializer), *more, **options)

        return made

    for kind in _KINDS:
        setattr(grpc, f"{kind}_rpc_method_handler", handling(getattr(grpc, f"{kind}_rpc_method_handler")))
        setattr(channels.Channel, kind, calling(getattr(channels.Channel, kind)))
