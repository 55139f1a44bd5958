"""Revisions of catching-up/*.db of a matcher."""
