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


def options(receive_bytes: int, send_bytes: int) -> list[tuple[str, int]]:
    """Return gRPC options with these limits."""
    return [
        ("grpc.max_receive_message_length", receive_bytes),
        ("grpc.max_send_message_length", send_bytes),
    ]
