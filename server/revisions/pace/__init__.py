"""Revisions of pace.db of a key holder."""
