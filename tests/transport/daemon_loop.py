"""A daemon with one method, whose answers and failures are steered by files; see test_daemon.

python -m tests.transport.daemon_loop <folder> <listen> <grace in seconds>

Files in the folder: `release` lets calls end, `broken` is a worker that has died, `spoilt` is what a SIGHUP fails on.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import grpc
import structlog

from tests.transport.parties import METHOD, tls_from
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.server.ground.logs import configure_logging, run_logged
from veilmatch.server.transport import daemon
from veilmatch.server.transport.channels import server_credentials, server_options

NAME = "matcher-a"
REFUSED = 3


async def appears(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.01)


async def serve(folder: Path, listen: str, grace_s: float) -> int:
    async def answer(request: bytes, context: Any) -> bytes:
        os.write(1, b"called\n")
        await appears(folder / "release")
        return b"answer to " + request

    service, name = METHOD.strip("/").split("/")
    handlers = {name: grpc.unary_unary_rpc_method_handler(answer)}
    server = grpc.aio.server(options=server_options(serves_devices=True))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    credentials = server_credentials(tls_from(folder, NAME))

    async def hangup() -> None:
        # Looked at first: who waits for the line may spoil it for the next time.
        is_spoilt = (folder / "spoilt").exists()
        structlog.get_logger("veilmatch.test").info("hangup")
        if is_spoilt:
            raise ValueError("SECRET")

    broken = folder / "broken"
    return await daemon.run_daemon(server, credentials, listen, lambda: appears(broken), hangup=hangup, stop_s=grace_s)


def main(folder: Path, listen: str, grace_s: float) -> int:
    configure_logging(NAME)
    daemon.ignore_hangups()
    daemon.take_descriptors()
    try:
        with daemon.sole_owner(folder / "data"):
            return run_logged(serve(folder, listen, grace_s))
    except VeilmatchError as error:
        os.write(1, f"{error.code}: {error}\n".encode())
        return REFUSED


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
