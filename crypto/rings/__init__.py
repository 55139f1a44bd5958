"""Arithmetic mod N^2 in batches: where nearly all the time of a query goes.

`ring.Ring` says what there is, `choice` which implementation runs: `native` (the kernel in
crypto/kernel) or `reference` (gmpy2). The two give the same numbers.
"""
