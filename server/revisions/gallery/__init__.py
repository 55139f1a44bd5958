"""Revisions of gallery.db of a matcher, or its PostgreSQL database."""
