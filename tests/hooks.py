"""Code of a test inside a daemon: started with it, and told of every message that the daemon receives or answers.

Nothing in the daemons knows of this. The environment of `starting_with` makes the nursery (tests/nursery.py) call the
`install` function of a module of the tests first, and that calls `on_every_message`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.nursery import INSIDE_VARIABLE

#: Of matchers that hear of each other's galleries, and catch up.
FOLLOWING = {"WatchRequest", "GalleryNews", "ChangesRequest", "ChangePart"}
#: Dealt randomness is fetched and checked ahead of time, whenever the stock is low; the third organisation follows;
#: lists of what is revoked are compared every few seconds.
NOT_OF_A_REQUEST = {
    "DealRequest", "DealtBlock", "DealtOpeningRequest", "DealtOpeningCommitment", "StockGeneration", "CheckMessage",
    "HealthCheckRequest", "HealthCheckResponse", "RevocationLists", *FOLLOWING,
}  # fmt: skip
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def starting_with(module: str) -> dict[str, str]:
    """Return what to add to the environment of daemons, so that each calls `install` of this module first."""
    return {INSIDE_VARIABLE: module}


def party() -> str:
    """Which daemon this process is, by its command line; "nobody" for its workers."""
    config = next((Path(x) for x in sys.orig_argv if x.endswith(".toml")), None)
    # organisation-a/matcher/matcher.toml
    return "nobody" if config is None else f"{config.stem}-{config.parent.parent.name[-1]}"


def is_of_a_request(message: Any) -> bool:
    """Return whether a message belongs to a device's request, and is not sent in the background."""
    return type(message).__name__ not in NOT_OF_A_REQUEST


def _of_sessions(message: Any) -> list[Any]:
    """Return the messages that one on a link has, or itself. What only the link needs belongs to no request."""
    if not type(message).__name__.endswith("Frames"):
        return [message]
    return [frame.message for frame in message.frame if frame.HasField("message")]


def on_every_message(note: Callable[[str, Any], None], *, dealing: bool = False) -> None:
    """Call note("receives" or "answers", message) for every message of a request, as it is parsed or serialised.

    dealing: for those about dealt randomness and of following as well.
    """
    import grpc
    import grpc.aio._channel as channels

    def noted(direction: str, message: Any) -> None:
        for one in _of_sessions(message):
            if dealing or is_of_a_request(one):
                note(direction, one)

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
