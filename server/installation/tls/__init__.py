"""TLS certificates: the folder of the authority, what it renews and takes back, and its revocation lists."""
