"""Arithmetic of two parties with the third as dealer, and Fermat's test of a number that nobody knows."""
