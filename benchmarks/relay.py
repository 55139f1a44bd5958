"""Counts the bytes between the parties of an installation: each connects through a relay of its own.

    with Relays(directory) as relays:      before the daemons are started
        ...
        relays.counts()["matcher-a", "matcher-b"]

The relays pass on what they get, TLS and all, so what is counted is what a network would carry without the headers
of TCP and IP. Configuration files name the relays inside the block, and the true addresses again after it.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

#: A line of a configuration file that says where a daemon listens; every other address is one that it calls.
_LISTEN = re.compile(r'^listen = "([^"]+)"', re.MULTILINE)
_CHUNK = 1 << 16


class Relays:
    """The relays of an installation directory; a context manager, around the life of its daemons."""

    def __init__(self, directory: Path) -> None:
        self._files = {path.parent.name: path for path in sorted(directory.glob("*/*.toml"))}
        self._before = {path: path.read_text() for path in self._files.values()}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relays", daemon=True)
        self._servers: list[asyncio.Server] = []

    def counts(self) -> Counter[tuple[str, str]]:
        """Return the bytes so far by (from, to), over connections that either of them opened."""
        return Counter(self._counts)

    def __enter__(self) -> Self:
        self._thread.start()
        found = {party: _LISTEN.search(self._before[path]) for party, path in self._files.items()}
        listening = {match[1]: party for party, match in found.items() if match}
        for caller, path in self._files.items():
            text = self._before[path]
            for address, party in listening.items():
                if party != caller and f'"{address}"' in text:
                    text = text.replace(f'"{address}"', f'"127.0.0.1:{self._call(self._open(caller, party, address))}"')
            path.write_text(text)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path, text in self._before.items():
            path.write_text(text)
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self, caller: str, party: str, address: str) -> int:
        """Start one relay; return its port."""
        host, port = address.rsplit(":", 1)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                far_reader, far_writer = await asyncio.open_connection(host, int(port))
            except OSError:  # the daemon is not there yet; the caller tries again
                writer.close()
                return
            await asyncio.gather(
                self._pass_on(reader, far_writer, (caller, party)), self._pass_on(far_reader, writer, (party, caller))
            )

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: tuple[str, str]) -> None:
        try:
            while data := await reader.read(_CHUNK):
                self._counts[way] += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
