"""What an evaluation counts, and how it is shown: rates, intervals, curves and the report."""
