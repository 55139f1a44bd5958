"""Exact enumeration, at tiny sizes, of what one organisation sees: is it the same for every secret?

For each building block and each organisation that has a part in it (plus holder's, minus holder's, dealer's) the real
code runs on every value of what that organisation does not know, and the joint distribution of all that it sees,
given all that it holds and dealt, is compared between every two secrets. Nothing is sampled. Distances are exact
fractions. Where one of the minus holder's rules makes a claim statistical, the distance has to be that of the formula
in docs/security-argument.md. Every protective step is also taken out, and then the views have to differ.

`python -m tests.enumeration` prints the table. docs/security-argument.md.
"""
