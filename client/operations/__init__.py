"""The operations of a device: what it makes of photos, and of the answers of the matchers."""
