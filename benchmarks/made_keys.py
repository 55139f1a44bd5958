"""Keys that three processes make together over mutual TLS, each checked and used by an installation of its own.

    python benchmarks/made_keys.py                          ten keys of 3072 bits
    python benchmarks/made_keys.py --keys 2 --bits 1024     UNSAFE, and quick
    python benchmarks/made_keys.py --keys 3 --json PATH     writes the figures as well, after each key

Of each key: the ceremony as `ceremony.py` measures it; `veilmatch key check` with the record that all three have
signed; everything that somebody with all shares can check by plain arithmetic; and six daemons that run with it: people
are enrolled, verified and searched for with each pair, and every answer is compared with that of plain integers.
Anything that does not hold ends the run with an error.

`STUDY` are the figures of the design study, of three parties in one process without a network on one idle core. Seconds
here have the machine's other work in them; rounds and bytes have not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ceremony import PASSPHRASE, candidates, held
from installation import QUERIES, Gallery, ask
from machine import cpu
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.crypto.ceremony.test_key import require_sound
from veilmatch.client.async_client import AsyncClient
from veilmatch.client.config import DeviceSettings
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.ceremony.joint.steps import JointKey
from veilmatch.crypto.keys.parties import PAIRS, PARTIES
from veilmatch.crypto.parameters import SUBGROUP_BITS, ParameterSet
from veilmatch.server.ceremony.record import FILE
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.installation.certifying.certifier import Grant
from veilmatch.server.installation.certifying.devices import issue_device
from veilmatch.server.installation.plan import config_of
from veilmatch.server.installation.sealed import unseal
from veilmatch.server.supervisor import Supervisor

PEOPLE, MODEL = 8, "random"
#: Little stock: to check a full one would take more than all requests.
STOCK = {"VEILMATCH_STOCK_TRIPLES": "1024", "VEILMATCH_STOCK_BYTES": str(2 << 17), "VEILMATCH_STOCK_PRODUCTS": "32768"}
#: By bits: rounds, MB that a party sends and its CPU seconds, of one batch; of 3072 bits with 123 and 164 tested P.
STUDY = {
    512: ("1,029", "21", "0.9"), 1024: ("2,089", "72", "2.1"), 2048: ("3,821", "226", "6.3"),
    3072: ("5,450", "471 to 575", "8.4 to 12.4"),
}  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Make, check and use them; print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=10, help="how many (default: %(default)s)")
    parser.add_argument("--bits", type=int, choices=SUBGROUP_BITS, default=3072, help="of the modulus")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    console, made = Console(), []
    for number in range(options.keys):
        made.append(made_and_used(ParameterSet(modulus_bits=options.bits)))
        console.print(f"{number + 1} of {options.keys}: key {made[-1]['key_id']}, {made[-1]['answers']} right answers")
        if options.json:
            document = {"cpu": cpu(), "cores": os.cpu_count(), "keys": made}
            options.json.write_text(json.dumps(document, indent=1) + "\n")
    console.print(table(options.bits, made))
    console.print(candidates(made))


def made_and_used(parameters: ParameterSet) -> dict[str, Any]:
    """Make one key, check and use it; return the figures of its ceremony, and what it was used for."""
    with tempfile.TemporaryDirectory(prefix="veilmatch-made-keys-") as scratch:
        directory = Path(scratch) / "installation"
        figures = held(parameters, 0.0, keep=directory)
        issue_device(directory, "device-1", PASSPHRASE, Grant())
        return figures | {"checks": checked(directory), "answers": used(directory)}


def checked(directory: Path) -> list[str]:
    """Return what `veilmatch key check` says of a key, and check the shares of all three by plain arithmetic."""
    words = ["key", "check", str(directory / "public.json"), "--transcript", str(directory / FILE), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "veilmatch", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True
    )
    public, keys = read_public_file(directory / "public.json"), {}
    for party in PARTIES:
        settings = KeyHolderSettings.load(config_of(directory, f"keyholder-{party}"))
        keys[party] = JointKey(public.public_key, unseal(settings.key_file, party, public, PASSPHRASE))
    require_sound(keys, public.public_key.parameters)
    return [check["holds"] for check in json.loads(done.stdout)["checks"]]


def used(directory: Path) -> int:
    """Run an installation and ask it everything with each pair; return how many answers there were, all right."""
    gallery = Gallery(read_public_file(directory / "public.json").public_key.parameters, PEOPLE)
    with Supervisor(directory, STOCK | {"VEILMATCH_PASSPHRASE": PASSPHRASE}) as parties:
        parties.start()
        parties.wait_ready(600.0)
        return asyncio.run(_asked(directory, gallery))


async def _asked(directory: Path, gallery: Gallery) -> int:
    settings = DeviceSettings.load(directory / "device-1" / "device.toml")
    answers = 0
    for pair in PAIRS:
        of_pair = settings.model_copy(update={"pairs": [pair], "timeout_s": 300.0})
        async with AsyncClient(of_pair) as client:
            if not answers:
                await client.enrol_many_embeddings(gallery.named(), model=MODEL)
            for operation in (one for one in QUERIES if one != "assured"):
                # Who is there and who is not, and a subject's own face and another's.
                for number in (0, 1):
                    if not await ask(client, operation, gallery, number):
                        raise AssertionError(f"{operation} {number} of {pair}: not the answer of plain integers")
                    answers += 1
    async with AsyncClient(settings.model_copy(update={"timeout_s": 300.0})) as client:
        for number in (0, 1):
            if not await ask(client, "assured", gallery, number):
                raise AssertionError(f"assured {number}: not the answer of plain integers")
            answers += 1
    return answers


def table(bits: int, made: list[dict[str, Any]]) -> Table:
    """Return all ceremonies as people read them, beside the design study's."""
    shown = Table(
        "key", "seconds", "CPU s of one", "rounds", "MB sent by one", "batches", "P tested, prime", "right answers",
        title=f"{len(made)} keys of {bits} bits, three processes over mutual TLS",
    )  # fmt: skip
    for key in made:
        seconds, cpu_s, rounds, sent = (
            sum(part[name] for part in key["parts"].values()) for name in ("seconds", "cpu_s", "rounds", "bytes")
        )
        shown.add_row(
            key["key_id"][:8], f"{seconds:.0f}", f"{cpu_s:.1f}", f"{rounds:,.0f}", f"{sent / 1e6:.0f}",
            str(key["batches"]), f"{key['large_tested']}, {key['large_prime']}", str(key["answers"]),
        )  # fmt: skip
    if bits in STUDY:
        study_rounds, study_sent, study_cpu_s = STUDY[bits]
        shown.add_row("study", "", study_cpu_s, study_rounds, study_sent, "1", "", "")
    return shown


if __name__ == "__main__":
    main(sys.argv[1:])
