"""From a request to both matchers and back: signing, sending, putting two answers together."""
