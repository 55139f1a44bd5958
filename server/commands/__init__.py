"""The daemons' part of the command line."""

import os


def quiet_grpc() -> None:
    """Keep the C core of gRPC from writing lines of its own, unless the operator asked for them. Before its import."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
