"""Revisions of ledger.db of every daemon."""
