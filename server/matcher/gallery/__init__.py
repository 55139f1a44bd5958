"""The encrypted gallery: what is stored, where, and how it changes."""
