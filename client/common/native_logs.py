"""What C libraries write to standard error by themselves: not to a person's terminal."""

from __future__ import annotations

import os


def keep_grpc_quiet() -> None:
    """Have gRPC and absl log nothing; to be called before gRPC is imported. GRPC_VERBOSITY of the user stands.

    What a failed connection means is in the error of the call; gRPC's lines beside it have addresses and internals,
    some of them for calls that succeed.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def is_grpc_quiet() -> bool:
    """Return whether gRPC writes nothing by itself in this process."""
    return os.environ.get("GRPC_VERBOSITY", "NONE").upper() == "NONE"
