"""Refreshing key shares: attempts, files, and the service towards the other key holders."""
