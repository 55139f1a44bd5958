"""One organisation deviates from the protocol, alone or together with an enrolled device. `python -m tests.hostile`."""
