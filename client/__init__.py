"""The device's side: the SDK, the face pipeline, the command line.

Programs import from `veilmatch`, which has every name that they need; modules below this one may move.
"""
