"""Moving an installation of two matchers, as earlier versions made them, to three organisations that are alike."""
