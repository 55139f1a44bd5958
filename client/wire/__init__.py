"""From a request to both matchers and back: signing, sending, putting two answers together."""

from veilmatch.common.native_logs import keep_grpc_quiet

keep_grpc_quiet()
