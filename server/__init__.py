"""Matchers and key holders."""
