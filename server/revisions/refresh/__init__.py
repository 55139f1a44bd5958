"""Revisions of refresh.db of a key holder."""
