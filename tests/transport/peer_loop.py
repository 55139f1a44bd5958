"""One end of a link in a process of its own, which says when it is in the middle of its session; see test_rendezvous.

python -m tests.transport.peer_loop dials <folder> <address> | called <folder>
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.transport.meetings import CALLED, DIALS, Meetings, PeerLink, meeting, message
from tests.transport.parties import tls_from
from veilmatch.server.transport.channels import channel_to

SUBJECT = b"a request"


async def in_the_middle(link: PeerLink) -> None:
    await link.send(message(1))
    await link.receive()
    os.write(1, b"in session\n")
    await link.receive()


async def dial(folder: Path, address: str) -> None:
    async with channel_to(address, CALLED, tls_from(folder, DIALS)) as channel:
        meetings = Meetings(rendezvous=None, channel=channel)  # type: ignore[arg-type]
        async with meetings.dial(SUBJECT) as link:
            await in_the_middle(link)


async def be_called(folder: Path) -> None:
    async with meeting(folder, tls_from) as meetings:
        os.write(1, f"{meetings.address}\n".encode())
        async with meetings.take(SUBJECT) as link:
            await in_the_middle(link)


if __name__ == "__main__":
    arguments = sys.argv[2:]
    asyncio.run(dial(Path(arguments[0]), arguments[1]) if sys.argv[1] == "dials" else be_called(Path(arguments[0])))
