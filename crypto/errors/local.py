"""What is wrong on this machine: a model that is not there, an output that nobody takes."""

from __future__ import annotations

from veilmatch.crypto.errors.base import VeilmatchError


class ModelError(VeilmatchError):
    """A face model that is not installed, or is not the pinned one."""

    code = "model"
    exit_status = 8


class OutputError(VeilmatchError):
    """What was done could not be printed: a reader that has gone, a full disk. The message says what was done."""

    code = "output"
    exit_status = 11
