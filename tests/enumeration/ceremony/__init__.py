"""Exact enumeration, at tiny sizes, of what one party of a joint key ceremony sees of a block.

As in the folder above: the real steps run on every value of what a party does not know, for some of what it holds, and
the joint distribution of all that it sees is compared between every two secrets. docs/ceremony.md.
"""
