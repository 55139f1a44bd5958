"""Dealt randomness at a key holder: fetched, checked, kept, used up once."""
