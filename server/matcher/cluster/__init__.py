"""Packs spread over a Ray cluster of the matcher's own organisation: one actor for each shard."""
