"""A query at a matcher: packs multiplied out, and the key holder asked."""
