"""What both daemons share of gRPC: channels, identities, requests, errors."""
