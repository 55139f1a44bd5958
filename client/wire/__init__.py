"""From a request to both matchers and back: signing, sending, putting two answers together."""

import os

# Before gRPC is imported: lines of its C core belong neither on a terminal nor between the JSON lines of a daemon.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
