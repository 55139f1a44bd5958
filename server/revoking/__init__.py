"""Revocation lists at a server: what it holds of them, and how they come to all servers. docs/certificates.md."""
