"""A whole joint ceremony of three parties in this process: `python -m tests.crypto.ceremony 3072`.

With --recover a dealer makes a key, and the parties new shares of it for c, which has lost its own. Prints rounds, and
what each party sends and computes, and checks the key as the tests do. 512 and 1024 bits are not safe, and quick; a
ceremony of 3072 takes a minute or two on an idle core, and some hundred megabytes.
"""

from __future__ import annotations

import argparse

from rich.console import Console

from tests.crypto.ceremony.table import Ceremony
from tests.crypto.ceremony.test_key import keys_of, require_sound
from veilmatch.crypto.ceremony.joint.renewal import Renewal, RenewalSession
from veilmatch.crypto.ceremony.joint.steps import JointKey
from veilmatch.crypto.keys.ceremony import run_ceremony
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.parameters import SUBGROUP_BITS, ParameterSet


def main() -> None:
    """Hold one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modulus_bits", type=int, choices=SUBGROUP_BITS)
    parser.add_argument("--recover", action="store_true", help="new shares of a key that is there")
    options = parser.parse_args()
    parameters, console = ParameterSet(modulus_bits=options.modulus_bits), Console()
    ceremony, keys = recovered(parameters) if options.recover else made(parameters)
    console.print(f"{parameters.name}: key {keys['a'].public_key.key_id.hex()}, {ceremony.rounds:,} rounds")
    for party in PARTIES:
        sent, cpu = ceremony.bytes_sent[party] / 1e6, ceremony.cpu_s[party]
        console.print(f"  {party} sent {sent:.3f} MB and computed {cpu:.2f} s")


def made(parameters: ParameterSet) -> tuple[Ceremony, dict[Party, JointKey]]:
    """Hold a ceremony, and check its key."""
    ceremony = Ceremony(parameters).run()
    keys = keys_of(ceremony)
    require_sound(keys, parameters)
    return ceremony, keys


def recovered(parameters: ParameterSet) -> tuple[Ceremony, dict[Party, JointKey]]:
    """Have a dealer make a key, lose c's share, make new ones and check them."""
    dealt = run_ceremony(parameters)
    renewal = Renewal(dealt.public_key, 3, "c", bytes(32))
    ceremony = Ceremony(parameters)
    before = {**dict(zip(PARTIES, dealt.keys, strict=True)), "c": None}
    ceremony.sessions = {party: RenewalSession(party, renewal, before[party]) for party in PARTIES}
    ceremony.run()
    assert not ceremony.errors, ceremony.errors
    keys = {
        party: JointKey(dealt.public_key, session.result)
        for party, session in ceremony.sessions.items()
        if session.result is not None
    }
    require_sound(keys, parameters, epoch=3)
    return ceremony, keys


if __name__ == "__main__":
    main()
