"""A network between the parties of an installation, which counts, delays and can be cut: each connects through a relay.

    with Relays(directory) as relays:      before the daemons are started
        relays.counts()["matcher-a", "matcher-b"]
        relays.cut("matcher-a", "matcher-b")
        relays.heal()

    with Relays(directory, slow=between_organisations) as relays:
        relays.delay_s = 0.025             each way, for what is sent from now on

The relays pass on what they get, TLS and all, so what is counted is what a network would carry without the headers
of TCP and IP. Between parties that are cut off from each other everything vanishes, both ways, and nothing is reset:
the connections stay, as when a firewall begins to drop packets. After `heal` connections of that time have lost what
was sent, so they are closed. Configuration files name the relays inside the block, and the true addresses again after
it.

A delay is that of a distance: everything arrives in order and that much later, whatever its size, and no connection
carries less for it. Links are slow if `slow(caller, called)` says so. To set a connection up takes a trip less than
over a distance, because the relay is what accepts it.
"""

from __future__ import annotations

import asyncio
import re
import selectors
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

#: A line of a configuration file that says where a daemon listens; every other address is one that it calls.
_LISTEN = re.compile(r'^listen = "([^"]+)"', re.MULTILINE)
_CHUNK = 1 << 16


def between_organisations(caller: str, called: str) -> bool:
    """Return whether a link leaves an organisation: not within one, and not a device's."""
    return "device" not in caller and "device" not in called and caller[-1] != called[-1]


class Relays:
    """The relays of an installation directory; a context manager, around the life of its daemons."""

    def __init__(self, directory: Path, *, slow: Callable[[str, str], bool] | None = None) -> None:
        #: What is sent over a slow link from now on takes this long, each way.
        self.delay_s = 0.0
        self._slow = slow
        self._files = {_name(path): path for path in sorted(directory.rglob("*.toml"))}
        self._before = {path: path.read_text() for path in self._files.values()}
        self._counts: Counter[tuple[str, str]] = Counter()
        # Delays to the microsecond: epoll, which loops use otherwise, takes whole milliseconds.
        self._loop = asyncio.SelectorEventLoop(selectors.SelectSelector()) if slow else asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relays", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._cut: set[frozenset[str]] = set()
        #: Connections from which something has vanished.
        self._torn: set[asyncio.StreamWriter] = set()

    def cut(self, *parties: str) -> None:
        """Let everything vanish that is sent between any two of these parties."""
        self._cut |= {frozenset((a, b)) for a in parties for b in parties if a != b}

    def isolate(self, parties: Iterable[str]) -> None:
        """Cut these parties off from everybody else."""
        inside = set(parties)
        self._cut |= {frozenset((a, b)) for a in inside for b in self._files if b not in inside}

    def heal(self) -> None:
        """Let everything through again."""
        self._cut.clear()
        self._call(self._close_torn())

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
            if frozenset((caller, party)) in self._cut:  # a network would not even connect them
                self._torn.add(writer)
                while await reader.read(_CHUNK):
                    pass
                return
            try:
                far_reader, far_writer = await asyncio.open_connection(host, int(port))
            except OSError:  # the daemon is not there yet; the caller tries again
                writer.close()
                return
            distant = self._slow is not None and self._slow(caller, party)
            ways: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, tuple[str, str]]] = [
                (reader, far_writer, (caller, party)), (far_reader, writer, (party, caller)),
            ]  # fmt: skip
            await asyncio.gather(*((self._delay if distant else self._pass_on)(*way) for way in ways))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: tuple[str, str]) -> None:
        try:
            while data := await reader.read(_CHUNK):
                if frozenset(way) in self._cut:
                    self._torn.add(writer)
                    continue
                self._counts[way] += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            if frozenset(way) in self._cut:  # nor would the end of a connection get through
                self._torn.add(writer)
            else:
                writer.close()

    async def _delay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: tuple[str, str]) -> None:
        """As `_pass_on`, but everything is on its way for a while, the end as well."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            try:
                while True:
                    due, data = await on_the_way.get()
                    await asyncio.sleep(due - self._loop.time())
                    if not data:
                        return
                    writer.write(data)
                    await writer.drain()
            except OSError:
                pass
            finally:
                writer.close()

        arriving, data = self._loop.create_task(arrive()), b"-"
        while data and not arriving.done():
            try:
                data = await reader.read(_CHUNK)
            except OSError:
                data = b""
            if frozenset(way) in self._cut:
                self._torn.add(writer)
                continue
            self._counts[way] += len(data)
            on_the_way.put_nowait((self._loop.time() + self.delay_s, data))
        await arriving

    async def _close_torn(self) -> None:
        torn, self._torn = self._torn, set()
        for writer in torn:
            writer.transport.abort()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _name(config: Path) -> str:
    """Return the name of the party whose configuration file this is."""
    if config.name == "device.toml":
        return config.parent.name
    # organisation-a/matcher/matcher.toml
    return f"{config.stem}-{config.parent.parent.name[-1]}"
