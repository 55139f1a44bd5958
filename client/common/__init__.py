"""What people meet at either side: configuration files, the environment, what commands print and how they end.

Used by `veilmatch.client` and `veilmatch.server`, which do not know each other.
"""
