"""Accuracy: how often a face model and a threshold err, and that encryption adds nothing to it.

    veilmatch eval photos/                  photos/SUBJECT/PHOTO, or embeddings with labels (.npz)

The words are those of ISO/IEC 19795-1 (biometric performance testing and reporting). Needs the `eval` extra,
and the `device` extra where photos are embedded.
"""
