"""Which pairs are asked, how long they are waited for, and what is made of pairs that fail."""
