"""How the two matchers meet, and agree on what a crash left open."""
