"""What the two key holders of a pair do together for one request."""
