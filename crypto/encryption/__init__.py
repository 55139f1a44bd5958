"""The encryption scheme: threshold Paillier with a short exponent, its stand-in, and proofs about ciphertexts."""
