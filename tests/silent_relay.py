"""A relay whose connections can die without a word: nothing passes any more, and nobody is told."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class SilentRelay:
    """Passes on TCP connections to an address, until `go_silent`; connections made after it are passed on again."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._epoch = 0
        self._sockets: list[socket.socket] = []
        self.accepted = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def go_silent(self) -> None:
        """From now on nothing passes through the connections that there are; they stay open."""
        self._epoch += 1

    def cut(self) -> None:
        """Close the connections that there are, so that both ends notice, and take no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # whoever waits in accept is told
        self._listener.close()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        for one in self._sockets:
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            self.accepted += 1
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, sink, self._epoch), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, epoch: int) -> None:
        try:
            while data := source.recv(1 << 16):
                if epoch == self._epoch:
                    sink.sendall(data)
            if epoch == self._epoch:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            return
