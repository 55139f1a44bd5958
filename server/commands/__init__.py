"""The daemons' part of the command line."""
