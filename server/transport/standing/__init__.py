"""Standing links: one stream of gRPC between two servers that carries all their sessions; see link.py."""
