"""A login: a bank learns whether a customer is at the device, without believing the device, which learns nothing.

python examples/login.py ada ada-1.jpg selfie.jpg

The bank draws a challenge, the device asks two organisations with it, and these seal their answers to the bank and sign
them. docs/recipients.md says what the bank can rely on.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from veilmatch import Client, VeilmatchError
from veilmatch.relying import MemorySeen, RecipientKey, Statement, Trust
from veilmatch.testing import LocalInstallation

LOWEST_THRESHOLD = 0.40


class Bank:
    """The back end. It has a key of its own and the installation's public file: nothing of a device or of a server."""

    def __init__(self, folder: Path) -> None:
        self._trust = Trust.load(folder / "public.json")
        self._key = RecipientKey.load(folder / "recipient.key", folder / "recipient.cert")
        self._seen = MemorySeen()  # in earnest SqliteSeen, which outlives a restart
        self._asked: dict[str, bytes] = {}

    def question(self, customer: str) -> bytes:
        """Return the challenge of a new login."""
        self._asked[customer] = secrets.token_bytes(32)
        return self._asked[customer]

    def may_enter(self, customer: str, answer: str) -> bool:
        """Return whether the answer says that it is the customer. One that cannot be relied on does not say so."""
        challenge = self._asked.pop(customer, None)
        if challenge is None:
            return False
        try:
            statement = Statement.open(
                answer,
                self._trust,
                self._key,
                seen=self._seen,
                expect_subject=customer,
                expect_challenge=challenge,
                lowest_threshold=LOWEST_THRESHOLD,
            )
        except VeilmatchError as error:
            print("the bank refuses it:", error.message)
            return False
        return bool(statement)


def answer_of(client: Client, certificate: Path, customer: str, photo: Path, challenge: bytes) -> str:
    """Return what the device brings to the bank. It cannot read it."""
    result = client.for_recipient(certificate).verify(customer, photo, challenge=challenge)
    return result.export()


def main(installation: LocalInstallation, customer: str, enrolled: Path, selfie: Path) -> None:
    """Enrol a customer, and let somebody log in."""
    folder = installation.recipient("bank")
    bank = Bank(folder)
    with installation.client() as client:
        client.enrol(customer, enrolled, once=True)
        answer = answer_of(client, folder / "recipient.cert", customer, selfie, bank.question(customer))
    print(f"{customer} is let in: {bank.may_enter(customer, answer)}")
    print(f"with the same answer again: {bank.may_enter(customer, answer)}")


if __name__ == "__main__":
    with LocalInstallation(recipients=["bank"]) as made:
        main(made, sys.argv[1], *map(Path, sys.argv[2:]))
