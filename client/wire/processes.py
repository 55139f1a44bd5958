"""gRPC and fork(): which processes can make connections, and what a child must leave alone.

After a fork the threads of gRPC are in the parent only, and the child shares its sockets and its poller. A connection
that the parent had open is dead in the child; one that the child makes while the parent has another waits for ever, or
ends the process; and one that the child *drops* is taken out of the parent's poller, which then hears nothing any more.
So a child of a process with open connections makes none, and drops none. A child of one without any is as good as new.
"""

from __future__ import annotations

import ctypes
import os
import weakref

import grpc

from veilmatch.crypto.errors import ClientUseError

_open: weakref.WeakSet[grpc.aio.Channel] = weakref.WeakSet()
_inherited = 0


def note_channel(channel: grpc.aio.Channel) -> grpc.aio.Channel:
    """Return the channel, which from now on counts as a connection of this process until it is gone."""
    _open.add(channel)
    return channel


def require_own_grpc() -> None:
    """Raise ClientUseError if this process was forked from one that had connections open."""
    if _inherited:
        raise ClientUseError(
            "this process was forked while a client was open in its parent: no connection can be made here",
            got=f"{_inherited} connections of the parent",
            expected="a process started by spawn or forkserver, or a fork before the first call of any client",
        )


def _after_fork_in_child() -> None:
    global _inherited
    for channel in list(_open):
        _inherited += 1
        # Never freed, not even by the interpreter at its end: see the head of this module.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(channel))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
