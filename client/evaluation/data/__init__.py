"""The faces of an evaluation: from photos, good and made worse, to comparisons."""
