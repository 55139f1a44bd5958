"""Code of a test inside a daemon: started with it, and told of every message that the daemon receives or answers.

Nothing in the daemons knows of this. The environment of `starting_with` makes Python run the `install` function of a
module of the tests first, and that calls `on_every_message`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: Dealt randomness is fetched and checked ahead of time, whenever the stock is low.
NOT_OF_A_REQUEST = {
    "DealRequest", "DealtBlock", "DealtOpeningRequest", "DealtOpeningCommitment", "StockGeneration", "CheckMessage",
    "HealthCheckRequest", "HealthCheckResponse",
}  # fmt: skip
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def starting_with(module: str, folder: Path) -> dict[str, str]:
    """Return what to add to the environment of daemons, so that each calls `install` of this module first."""
    (folder / "sitecustomize.py").write_text(f"from {module} import install\n\ninstall()\n")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def party() -> str:
    """Which daemon this process is, by its command line; "nobody" for its workers."""
    return next((Path(x).parent.name for x in sys.orig_argv if x.endswith(".toml")), "nobody")


def on_every_message(note: Callable[[str, Any], None], *, dealing: bool = False) -> None:
    """Call note("receives" or "answers", message) for every message of a request, as it is parsed or serialised.

    dealing: for those about dealt randomness as well.
    """
    import grpc
    import grpc.aio._channel as channels

    def noted(direction: str, message: Any) -> None:
        if dealing or type(message).__name__ not in NOT_OF_A_REQUEST:
            note(direction, message)

    # A handler may be made of another one (server/transport/door.py): each message is noted once.
    noting: set[object] = set()

    def reading(parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
        if parse is None or parse in noting:
            return parse

        def parsed(data: bytes) -> Any:
            message = parse(data)
            noted("receives", message)
            return message

        noting.add(parsed)
        return parsed

    def writing(serialise: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
        if serialise is None or serialise in noting:
            return serialise

        def serialised(message: Any) -> bytes:
            noted("answers", message)
            return serialise(message)

        noting.add(serialised)
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
