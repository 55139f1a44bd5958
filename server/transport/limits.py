"""Message-size limits and channel options: explicit, and the same on both sides of a connection."""

from __future__ import annotations

MIB = 1 << 20
#: From a device: a probe is 3 kB, a bulk pack with its records at most about 2 MB.
DEVICE_MESSAGE_BYTES = 4 * MIB
#: Between servers. Results and columns travel in chunks; openings and gate layers whole: 5 MB a million slots.
PEER_MESSAGE_BYTES = 16 * MIB
#: Payload of one chunk of a list of ciphertexts.
CHUNK_BYTES = 2 * MIB
#: Answers to a device: the labels of a million slots.
REPLY_MESSAGE_BYTES = 64 * MIB
#: How long a connection may take to be encrypted and to show its certificate.
HANDSHAKE_S = 5.0
#: A connection without calls is closed after this.
IDLE_S = 600.0
#: Calls of one connection at once; what is beyond waits.
STREAMS = 256
#: A server pings the other end of a connection that has been quiet for so long, and closes it if nothing comes back.
PING_S = 60.0
#: The same on a connection from one server to another: between them a lost connection is a lost request.
PEER_PING_S = 4.0
#: How long the answer to a ping may take.
PONG_S = 4.0
#: The other end may ping as often as this; devices do so every 20 s.
PINGED_S = 3.0
#: How long a pack of a bulk enrolment may take to arrive: 2 MB over a slow line.
SILENCE_S = 60.0


def pings(every_s: float) -> list[tuple[str, int]]:
    """Return the options of a connection that is pinged when it is quiet, so that one that died is not waited for."""
    return [
        ("grpc.keepalive_time_ms", round(1000 * every_s)),
        ("grpc.keepalive_timeout_ms", round(1000 * PONG_S)),
        ("grpc.http2.ping_timeout_ms", round(1000 * PONG_S)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def options(receive_bytes: int, send_bytes: int) -> list[tuple[str, int]]:
    """Return gRPC options with these limits."""
    return [
        ("grpc.max_receive_message_length", receive_bytes),
        ("grpc.max_send_message_length", send_bytes),
    ]
