"""`veilmatch check`: what is damaged in a party's folder, found while its daemon serves."""
