"""Inside a party: notes when it sends and takes messages, and when it works.

`environment(folder, key)` is what daemons are started with: Python runs `sitecustomize` of a folder in PYTHONPATH
first, and that calls `install`. Each process writes a file of its own, a note a line. Of a message its type, its size
and a keyed hash are noted, by which both ends of it find each other, and nothing that it holds. All times are of the
clock that all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

#: Folder of the notes, and the key of the hashes in hexadecimal.
FOLDER_VARIABLE, KEY_VARIABLE = "TIMELINE_FOLDER", "TIMELINE_KEY"
#: Steps of an event loop that take less are not noted.
LEAST_S = 2e-4
#: Messages that were parsed, and that somebody may not have asked for yet.
REMEMBERED = 256
#: What workers are asked for, by kind of party and first byte of a request.
WORK = {
    "keyholder": {b"W": "secret powers", b"K": "key-safety powers", b"C": "combine ciphertexts"},
    "matcher": {b"M": "products of packs", b"C": "encrypt columns", b"R": "encrypt record", b"A": "apply columns"},
}
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def environment(folder: Path, key: bytes) -> dict[str, str]:
    """Return what to add to the environment of daemons, so that they write notes to `folder`."""
    folder.mkdir()
    root = Path(__file__).parents[2]
    lines = (
        "import sys",
        f"sys.path.append({str(root)!r})",
        "from benchmarks.timeline import inside",
        "inside.install()",
    )
    (folder / "sitecustomize.py").write_text("\n".join(lines) + "\n")
    return {"PYTHONPATH": str(folder), FOLDER_VARIABLE: str(folder), KEY_VARIABLE: key.hex()}


def install() -> None:
    """Note what this process does from now on, if it is a daemon."""
    config = next((Path(word) for word in sys.orig_argv if word.endswith(".toml")), None)
    if config is None or config.stem not in WORK:
        return  # a worker of one
    # organisation-a/matcher/matcher.toml
    party = f"{config.stem}-{config.parent.parent.name[-1]}"
    notes = Notes(Path(os.environ[FOLDER_VARIABLE]), party, bytes.fromhex(os.environ[KEY_VARIABLE]))
    notes.messages()
    notes.loop()
    notes.threads()
    notes.links()
    notes.workers(WORK[config.stem])


class Notes:
    """The notes of one party. Its methods say what is noted from then on, and cannot be taken back."""

    def __init__(self, folder: Path, party: str, key: bytes) -> None:
        self._file = os.open(folder / f"{party}.notes", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self._key = key
        #: The last messages by their identity, with the hashes by which they were noted.
        self._taken: dict[int, tuple[Any, str]] = {}

    def message(self, direction: str, message: Any, data: bytes, other: str = "") -> None:
        """Note a message that is sent or taken now. other: the party at the other end, if this is the calling one."""
        if type(message).__name__.endswith("Frames"):  # of sessions, each of which has messages of its own
            for frame in message.frame:
                if frame.HasField("message"):
                    self.message(direction, frame.message, frame.message.SerializeToString(), other)
            return
        now, kind = time.perf_counter(), type(message).__name__
        # What it holds, of those that may hold one of several things. Those of optional fields begin with "_".
        choices = [oneof.name for oneof in message.DESCRIPTOR.oneofs if not oneof.name.startswith("_")]
        name = next(filter(None, map(message.WhichOneof, choices)), kind)
        digest = self._digest(data)
        self._write([direction, now, kind, name, len(data), digest, other])
        if direction == "taken":
            self._taken[id(message)] = message, digest
            if len(self._taken) > REMEMBERED:
                del self._taken[next(iter(self._taken))]

    def _digest(self, data: bytes) -> str:
        return blake2b(data, key=self._key, digest_size=12).hexdigest()

    def work(self, kind: str, name: str, began: float) -> None:
        """Note work that ends now. kind: where it was done, "thread" or "loop"."""
        self._write([kind, began, time.perf_counter(), name])

    def messages(self) -> None:
        """Note every message, of both ends of every call."""
        import grpc
        import grpc.aio._channel as channels

        # A handler may be made of another one: each message is noted once.
        noting: set[object] = set()

        def taking(parse: Callable[[bytes], Any] | None, other: str = "") -> Any:
            if parse is None or parse in noting:
                return parse

            def parsed(data: bytes) -> Any:
                message = parse(data)
                self.message("taken", message, data, other)
                return message

            noting.add(parsed)
            return parsed

        def sending(serialise: Callable[[Any], bytes] | None, other: str = "") -> Any:
            if serialise is None or serialise in noting:
                return serialise

            def serialised(message: Any) -> bytes:
                data = serialise(message)
                self.message("sent", message, data, other)
                return data

            noting.add(serialised)
            return serialised

        def handling(make: Any) -> Any:
            def made(behavior: Any, request_deserializer: Any = None, response_serializer: Any = None) -> Any:
                return make(behavior, taking(request_deserializer), sending(response_serializer))

            return made

        def calling(make: Any) -> Any:
            def made(
                channel: Any, method: str, request_serializer: Any = None, response_deserializer: Any = None,
                *more: Any, **options: Any,
            ) -> Any:  # fmt: skip
                ends = sending(request_serializer, channel.to), taking(response_deserializer, channel.to)
                return make(channel, method, *ends, *more, **options)

            return made

        opened = channels.Channel.__init__

        def opening(channel: Any, target: str, options: Any, *more: Any, **named: Any) -> None:
            channel.to = dict(options or ()).get("grpc.ssl_target_name_override", "")
            opened(channel, target, options, *more, **named)

        channels.Channel.__init__ = opening  # type: ignore[method-assign]
        for kind in _KINDS:
            setattr(grpc, f"{kind}_rpc_method_handler", handling(getattr(grpc, f"{kind}_rpc_method_handler")))
            setattr(channels.Channel, kind, calling(getattr(channels.Channel, kind)))

    def loop(self) -> None:
        """Note every step of the main thread's event loop that takes long."""
        plain = asyncio.events.Handle._run

        def run(handle: asyncio.Handle) -> None:
            began = time.perf_counter()
            plain(handle)
            if time.perf_counter() - began >= LEAST_S and threading.current_thread() is threading.main_thread():
                self.work("loop", "Python", began)

        asyncio.events.Handle._run = run  # type: ignore[method-assign]

    def threads(self) -> None:
        """Note what is done in threads beside the event loop, and commits."""
        plain = asyncio.to_thread

        async def to_thread(function: Callable[..., Any], /, *args: Any, **named: Any) -> Any:
            return await plain(self._noting(function, getattr(function, "__name__", "work")), *args, **named)

        asyncio.to_thread = to_thread
        from veilmatch.server.ground.gathering import Gathered

        outcomes = Gathered._outcomes

        def written(gathered: Any, items: Any) -> Any:
            return self._noting(outcomes, f"commit: {gathered._name}")(gathered, items)

        Gathered._outcomes = written  # type: ignore[method-assign]

    def links(self) -> None:
        """Note since when a server had waited for each message of another one."""
        from veilmatch.server.transport import links
        from veilmatch.server.transport.standing.strand import Strand

        def noting(receive: Any, digest_of: Callable[[Any], str | None]) -> Any:
            async def received(link: Any) -> Any:
                began = time.perf_counter()
                message = await receive(link)
                if digest := digest_of(message):
                    self._write(["waited", began, time.perf_counter(), digest])
                return message

            return received

        def of_taken(message: Any) -> str | None:
            taken = self._taken.get(id(message))
            return taken[1] if taken else None

        for kind in (links._DialledLink, links.AcceptedLink):
            kind.receive = noting(kind.receive, of_taken)  # type: ignore[attr-defined]
        # A session has copies of what came over its link, and asks for those that are not at hand.
        Strand.receive = noting(Strand.receive, lambda m: self._digest(m.SerializeToString()))  # type: ignore[method-assign]

    def workers(self, names: dict[bytes, str]) -> None:
        """Note the arithmetic. names: by the first byte of a request to a worker."""
        from veilmatch.server.workers.pool import _Worker
        from veilmatch.server.workers.threads import WorkerThreads

        def noting(answer: Any) -> Any:
            def answered(worker: Any, request: bytes) -> bytes:
                found: bytes = self._noting(answer, names.get(request[:1], "worker"))(worker, request)
                return found

            return answered

        # In the thread of a worker: whatever asked, and whoever computes.
        WorkerThreads._answer = noting(WorkerThreads._answer)  # type: ignore[method-assign]
        _Worker._exchange = noting(_Worker._exchange)  # type: ignore[method-assign]

    def _noting(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def noted(*args: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **named)
            finally:
                self.work("thread", name.strip("_"), began)

        return noted

    def _write(self, note: list[Any]) -> None:
        os.write(self._file, json.dumps(note).encode() + b"\n")
