"""From a request to the matchers of a pair and back: signing, sending, putting two answers together."""

from veilmatch.common.native_logs import keep_grpc_quiet

keep_grpc_quiet()
