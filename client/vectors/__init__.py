"""Vectors made of embeddings on the device, before the quantiser: fused ones, means of views, classes of a head.

Servers cannot tell such a vector from the embedding of a photo: it has the dimension of the parameter set, length 1 and
no coordinate that stands out.
"""
