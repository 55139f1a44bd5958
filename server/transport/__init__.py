"""What both daemons share of gRPC: channels, identities, streams, errors."""
