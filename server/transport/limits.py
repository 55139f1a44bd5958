"""Limits of messages, streams and connections, and channel options: explicit, and the same on both sides."""

from __future__ import annotations

MIB = 1 << 20
#: What a matcher takes: a bulk pack with its records has at most about 2 MB, a chunk of the other matcher CHUNK_BYTES.
DEVICE_MESSAGE_BYTES = 4 * MIB
#: What a key holder takes, from servers. Results travel in chunks, and so do openings and gate layers, which have 7 MB
#: for a million slots (keyholder/wire.py).
PEER_MESSAGE_BYTES = 16 * MIB
#: Payload of one chunk of a list of ciphertexts.
CHUNK_BYTES = 2 * MIB
#: One message to a device: labels come in as many as they take.
REPLY_MESSAGE_BYTES = 16 * MIB
#: Calls of one connection at once; what is beyond waits at the caller.
STREAMS = 1024
#: What gRPC holds of a call that is not read: the window of HTTP/2. It would make it megabytes for a fast connection,
#: so it is told not to measure (`grpc.http2.bdp_probe`); a message that is read is let in as a whole.
WINDOW_BYTES = 1 << 16
#: Calls of one device, and of one server, at once, over all of its connections; what is beyond is refused unread.
CALLS_OF_DEVICE, CALLS_OF_PEER = 128, STREAMS
#: Messages that are read at once: of one caller, of all devices, and of all who ask for the health of the daemon.
READS_EACH, READS_OF_DEVICES, READS_OF_STRANGERS = 4, 16, 4
#: One server pings another on a connection that has been quiet for so long, and gives it up without an answer for
#: PEER_PONG_S: a dead connection is found in about the time that one call may take.
PEER_PING_S, PEER_PONG_S = 2.0, 4.0
#: Headers of a call: none of ours has more than an error, 4 kB. gRPC refuses some above this, and all above twice it.
METADATA_BYTES = 1 << 13
#: In a key ceremony each end computes for seconds, and a dead peer costs minutes anyway.
CEREMONY_PING_S, CEREMONY_PONG_S = 10.0, 60.0
#: How long a message of a stream may take to arrive: a pack of a bulk enrolment has 2 MB, over a slow line.
SILENCE_S = 60.0
#: A whole call between servers takes at most so many of their time-outs.
WHOLE_CALL = 60.0
#: What the called end of a link reads ahead: so many messages, or bytes and the message that reaches them.
INBOX_MESSAGES, INBOX_BYTES = 64, PEER_MESSAGE_BYTES
#: Calls of one peer about requests that were not brought here yet: all that it may have.
WAITING_LINKS = CALLS_OF_PEER
#: The message that each of them begins with, which is kept while it waits; and what it is about, a digest.
FIRST_MESSAGE_BYTES, SUBJECT_BYTES = 4096, 32


def pings(every_s: float, answer_s: float) -> list[tuple[str, int]]:
    """Return the options of an end that pings a quiet connection, and gives up one that has died without a word."""
    return [
        ("grpc.keepalive_time_ms", round(1000 * every_s)),
        ("grpc.keepalive_timeout_ms", round(1000 * answer_s)),
        ("grpc.http2.ping_timeout_ms", round(1000 * answer_s)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def options(receive_bytes: int, send_bytes: int) -> list[tuple[str, int]]:
    """Return gRPC options with these limits."""
    return [
        ("grpc.max_receive_message_length", receive_bytes),
        ("grpc.max_send_message_length", send_bytes),
    ]
