"""Known-answer vectors; generate.py says how they were made."""
