"""Attacks on the protocol. Each succeeds when its check is taken out, and fails with the check."""
