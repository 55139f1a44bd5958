"""What is told of each request that a client has sent: to nobody, unless a program traces (client/tracing.py)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.keys.parties import Pair
from veilmatch.protos.v1 import request_pb2


@dataclass(slots=True)
class Told:
    """A request. id: its name in logs, "" before it is signed. code: "ok", or how it ended. Times: `time.time_ns`."""

    operation: str
    pair: Pair
    began: int
    id: str = ""
    code: str = "ok"
    ended: int = 0


#: Called in the task of the call, once for each request, when it has ended.
listeners: list[Callable[[Told], None]] = []


@contextmanager
def telling(operation: request_pb2.Operation.ValueType, pair: Pair) -> Iterator[Told]:
    """Tell of the request that the body signs and sends; the body says its id."""
    name = request_pb2.Operation.Name(operation).removeprefix("OPERATION_").lower()
    this = Told(name, pair, time.time_ns())
    try:
        yield this
    except asyncio.CancelledError:
        this.code = "abandoned"
        raise
    except VeilmatchError as error:
        this.code = error.code
        raise
    except Exception:
        this.code = "internal"
        raise
    finally:
        this.ended = time.time_ns()
        if this.id:
            for listener in listeners:
                listener(this)
