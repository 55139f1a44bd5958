"""Threshold Paillier, packing, share conversion and gates: pure functions and state machines, no I/O."""
