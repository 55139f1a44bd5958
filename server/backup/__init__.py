"""What of a party may be taken to another place and put back: `veilmatch backup`, and never what must not be."""
