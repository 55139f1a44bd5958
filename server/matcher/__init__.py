"""The matcher: gallery, worker pool, service."""
