"""How the two matchers of a pair meet, and agree on what a crash left open."""
