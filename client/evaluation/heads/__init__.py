"""Heads: photos by class, training a linear classifier on their embeddings, and how often it errs, encrypted and
not."""
