"""Revisions of stock.db of a key holder."""
