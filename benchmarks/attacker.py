"""Whoever opens connections to a matcher and means harm: with a device's certificate, or without one."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress

from veilmatch.client.config import DeviceSettings

MATCHER = "matcher-a"
#: What a calling end says first: that it speaks HTTP/2, and has no settings.
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame of HTTP/2."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def headers(stream: int) -> bytes:
    """Return the beginning of a call that asks how the daemon is."""
    fields = {
        ":method": "POST", ":scheme": "https", ":path": "/grpc.health.v1.Health/Check", ":authority": MATCHER,
        "te": "trailers", "content-type": "application/grpc",
    }  # fmt: skip
    texts = [(name.encode(), value.encode()) for name, value in fields.items()]
    # Literals that are not indexed: no table to keep.
    block = b"".join(b"\0" + bytes([len(n)]) + n + bytes([len(v)]) + v for n, v in texts)
    return frame(1, 4, stream, block)


class Attacker:
    """One device that means harm. count: connections of each kind."""

    def __init__(self, settings: DeviceSettings, count: int) -> None:
        self.count = count
        host, _, port = settings.matchers["a"].rpartition(":")
        self._at = host, int(port)
        self._authority = str(settings.tls.authority)
        self._context = ssl.create_default_context(cafile=self._authority)
        self._context.load_cert_chain(settings.tls.certificate, settings.tls.key)
        self._context.set_alpn_protocols(["h2"])
        self._open: list[socket.socket] = []

    def plain(self) -> socket.socket:
        one = socket.create_connection(self._at, timeout=20)
        self._open.append(one)
        return one

    def shaken(self, says: bytes = HELLO) -> socket.socket:
        one = self._context.wrap_socket(self.plain(), server_hostname=MATCHER)
        self._open[-1] = one
        one.sendall(says)
        return one

    def close(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.close()
        self._open.clear()

    # -- kinds ----------------------------------------------------------------------------------

    def nothing(self) -> None:
        """TCP, and nothing is said"""
        for _ in range(self.count):
            self.plain()

    def slowly(self) -> None:
        """TLS that comes byte by byte"""
        made = [self.plain() for _ in range(self.count)]
        for byte in b"\x16\x03\x01\x02\x00\x01" + bytes(10):
            for one in made:
                with suppress(OSError):
                    one.sendall(bytes([byte]))
            time.sleep(0.5)

    def garbage(self) -> None:
        """garbage, 4 kB each"""
        for _ in range(self.count):
            with suppress(OSError):
                self.plain().sendall(b"\xa5" * 4096)

    def half(self) -> None:
        """half a handshake each: the first message of TLS, and nothing after it"""
        for _ in range(self.count):
            with suppress(OSError):
                self.plain().sendall(self.first_message())

    def first_message(self) -> bytes:
        """Return what a calling end says first, fresh: the server answers with its key, certificate and signature."""
        sent = ssl.MemoryBIO()
        with suppress(ssl.SSLWantReadError):
            self._context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=MATCHER).do_handshake()
        return sent.read()

    def handshake(self) -> None:
        """a whole handshake each, and not a byte after it"""
        for _ in range(self.count):
            with suppress(OSError):
                self.shaken(b"")

    def stranger(self) -> None:
        """a whole handshake each, without a certificate"""
        mine, self._context = self._context, ssl.create_default_context(cafile=self._authority)
        self._context.set_alpn_protocols(["h2"])
        try:
            self.no_call()
        finally:
            self._context = mine

    def no_call(self) -> None:
        """TLS and HTTP/2, and no call"""
        for _ in range(self.count):
            with suppress(OSError):
                self.shaken()

    def one_call(self) -> None:
        """TLS and HTTP/2, one call each"""
        for _ in range(self.count):
            with suppress(OSError):
                self.shaken().sendall(headers(1) + frame(0, 1, 1, bytes(5)))

    def pings(self) -> None:
        """pings, 100 for each of the others, on one"""
        with suppress(OSError):
            one = self.shaken()
            for number in range(100 * self.count):
                one.sendall(frame(6, 0, 0, number.to_bytes(8)))

    def resets(self) -> None:
        """calls begun and reset at once, 10 for each of the others, on one"""
        with suppress(OSError):
            one = self.shaken()
            for number in range(10 * self.count):
                one.sendall(headers(2 * number + 1) + frame(3, 0, 2 * number + 1, (8).to_bytes(4)))
