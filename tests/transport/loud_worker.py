"""A worker process that warns, logs, and then fails as no handler should; see test_logs.

python -m tests.transport.loud_worker <secret>
"""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings
from collections.abc import Callable

from veilmatch.server.ground.logs import configure_logging, in_worker
from veilmatch.server.workers.pool import WorkerPool

NAME = "matcher-a"


class Fatal(BaseException):
    """Nothing that a worker answers with."""


def make_loud() -> Callable[[bytes], bytes]:
    def answer(secret: bytes) -> bytes:
        warnings.warn(secret.decode(), RuntimeWarning, stacklevel=1)
        logging.getLogger("library").error("failed: %s", ValueError(secret))
        raise Fatal(secret)

    return answer


async def main(secret: bytes) -> None:
    with WorkerPool(1, in_worker, NAME, "info", make_loud) as pool:
        await asyncio.gather(pool.call(0, secret), return_exceptions=True)
        await pool.wait_failed()


if __name__ == "__main__":
    configure_logging(NAME)
    asyncio.run(main(sys.argv[1].encode()))
