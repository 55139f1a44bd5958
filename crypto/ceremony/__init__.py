"""A key that no machine has ever known: what three key holders make it with, together.

- rounds.py, seats.py: how steps are written, and what a party draws;
- coins.py, shared.py, replicated.py, inversion.py: numbers that are replicated among three;
- sieve.py, trial_division.py: shared candidates without small factors;
- two/: two parties and a dealer, and with them Fermat's test of a number that nobody knows;
- masking.py, biprimality.py, generator.py, handing_out.py: from shared factors to a public key and key shares;
- joint/: the ceremony itself.

Each module says what is opened, to whom, and how far it is from telling nothing. docs/ceremony.md.
"""
