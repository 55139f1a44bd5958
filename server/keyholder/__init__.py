"""The key-holder daemon."""
