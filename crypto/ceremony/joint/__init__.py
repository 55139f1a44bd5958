"""The ceremony without a dealer: session.py is what a party runs."""
