"""Which templates are not to be kept any longer, as one organisation sees it."""
