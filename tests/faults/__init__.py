"""Daemons that die in the middle of a request. `python -m tests.faults` prints the table of outcomes."""
