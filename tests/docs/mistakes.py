"""Each common mistake, made for real, and what a user sees of it: the second table of docs/troubleshooting.md.

python -m tests.docs.mistakes          # makes them all and writes the table; starts six daemons, takes a minute

`CASES` are functions that raise what the command line and the SDK show. What differs from run to run (folders, ports,
times, ids) is replaced by words (`steady`), so that test_mistakes.py can compare the table with what is said now.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image, ImageFilter
from typer.testing import CliRunner

from tests.e2e.world import ENVIRONMENT, PASSPHRASE, World, hold_ceremony, set_budgets, settle, supervised
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.client import Client
from veilmatch.client.commands.base.application import build_app
from veilmatch.client.config import DeviceSettings
from veilmatch.client.models import orl_photo
from veilmatch.client.models.cache import VARIABLE as CACHE
from veilmatch.common import speaking
from veilmatch.common.hints import hint
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.versions import HELLO_KEY, Hello
from veilmatch.testing import made_up_embedding

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
BEGIN, END = "<!-- made by tests/docs/mistakes.py -->\n", "<!-- end -->\n"
#: How often one person may be asked about in a day here.
PER_DAY = 3
_ANSWERS_NOWHERE = "127.0.0.1:9"


@dataclass(frozen=True)
class Bench:
    """Where mistakes are made: a folder of photos, and an installation in which ada is enrolled from one of them."""

    folder: Path
    world: World

    def photo(self, name: str) -> Path:
        return self.folder / name

    def settings(self, device: str = "device-1", **changes: Any) -> DeviceSettings:
        path = self.world.directory / device / "device.toml"
        return DeviceSettings.load(path).model_copy(update=changes)

    def verify(self, name: str = "door.jpg", subject: str = "ada", device: str = "device-1", **changes: Any) -> None:
        with Client(self.settings(device, **changes)) as client:
            client.verify(subject, self.photo(name))


def command(*words: str | Path) -> None:
    """Run a command in this process. Raises what it would show."""
    result = CliRunner().invoke(build_app(str(words[0])), [*map(str, words), "--json"])
    if result.exit_code > 1:
        raise VeilmatchError.from_fields(json.loads(result.stdout)["error"])
    assert result.exit_code == 0, result.output


def issue(bench: Bench, name: str, *options: str) -> None:
    if not (bench.world.directory / name).exists():
        with mock.patch.dict(os.environ, {"VEILMATCH_PASSPHRASE": PASSPHRASE}):
            command("device", "issue", bench.world.directory, name, "--gallery", "main", *options)


# -- photos ----------------------------------------------------------------------------------------


def draw_photos(folder: Path) -> None:
    """Photos of every kind: right ones of two people (ORL), and spoilt ones."""
    ada, door, bob = (Image.open(orl_photo(*which)).convert("RGB") for which in ((1, 1), (1, 5), (5, 1)))
    two = Image.new("RGB", (2 * ada.width, ada.height))
    two.paste(ada, (0, 0))
    two.paste(bob, (ada.width, 0))
    small = Image.new("RGB", (200, 200), "grey")
    small.paste(ada.resize((26, 32)), (100, 100))
    photos = {
        "ada.jpg": ada, "door.jpg": door, "bob.jpg": bob, "two.jpg": two, "small.jpg": small,
        "wall.jpg": Image.new("RGB", (200, 200), "grey"), "blurred.jpg": ada.filter(ImageFilter.GaussianBlur(3)),
        "sideways.jpg": door.rotate(90, expand=True),
    }  # fmt: skip
    for name, image in photos.items():
        image.save(folder / name, quality=95)
    (folder / "text.jpg").write_text("not a photo")


# -- the mistakes ----------------------------------------------------------------------------------


def blurred(bench: Bench) -> None:
    with Client(bench.settings()) as client:
        client.enrol("eve", bench.photo("blurred.jpg"))


def other_model(bench: Bench) -> None:
    with Client(bench.settings()) as client:
        client.verify_embedding("ada", made_up_embedding("ada"), model="my-model-2")


def wrong_dimension(bench: Bench) -> None:
    with Client(bench.settings()) as client:
        client.verify_embedding("ada", made_up_embedding("ada", dimension=512), model=MODEL)


class WidePipeline:
    """A face model of 512 numbers."""

    dimension, model_id = 512, "arcface-r50-4c06341c"

    def embed_photo(self, source: Any) -> np.ndarray:
        return np.ones(512)


def other_size_of_model(bench: Bench) -> None:
    with Client(bench.settings(), capture=WidePipeline()) as client:
        client.verify("ada", bench.photo("door.jpg"))


def no_models(bench: Bench) -> None:
    with mock.patch.dict(os.environ, {CACHE: str(bench.folder / "empty")}):
        bench.verify()


def no_device_toml(bench: Bench) -> None:
    with inside(bench.folder):
        command("verify", "ada", "door.jpg")


def misspelt(bench: Bench) -> None:
    usual = bench.world.directory / "device-1" / "device.toml"
    path = usual.with_name("misspelt.toml")
    path.write_text(usual.read_text().replace("threshold =", "treshold ="))
    command("verify", "ada", bench.photo("door.jpg"), "--config", path)


def pair_without_matcher(bench: Bench) -> None:
    usual = bench.world.directory / "device-1" / "device.toml"
    path = usual.with_name("two.toml")
    lines = [line for line in usual.read_text().splitlines() if not re.match(r"^c = ", line)]
    path.write_text("\n".join(['pairs = ["bc"]', *lines]) + "\n")
    command("verify", "ada", bench.photo("door.jpg"), "--config", path)


def open_key(bench: Bench) -> None:
    key = bench.settings().signing_key
    key.chmod(0o644)
    try:
        bench.verify()
    finally:
        key.chmod(0o600)


def wrong_passphrase(bench: Bench) -> None:
    with mock.patch.dict(os.environ, {"VEILMATCH_PASSPHRASE": "another passphrase"}):
        command("device", "issue", bench.world.directory, "door-9", "--right", "verify")


def nobody_listens(bench: Bench) -> None:
    bench.verify(matchers=dict.fromkeys("abc", _ANSWERS_NOWHERE), timeout_s=5.0)


def clock_behind(bench: Bench) -> None:
    with Client(bench.settings(), now=lambda: time.time() - 600) as client:
        client.verify("ada", bench.photo("door.jpg"))


def clock_ahead(bench: Bench) -> None:
    with Client(bench.settings(), now=lambda: time.time() + 600) as client:
        client.verify("ada", bench.photo("door.jpg"))


def expired(bench: Bench) -> None:
    """A certificate of a year ago, for a day."""
    issue(bench, "old", "--right", "verify", "--days", "1")
    from veilmatch.crypto.encryption.public_key_format import PublicFile
    from veilmatch.server.admission.devices import read_certificate
    from veilmatch.server.installation.certifying.certifier import Grant, certified
    from veilmatch.server.installation.certifying.devices import certifiers_here

    directory = bench.world.directory
    public = PublicFile.decode((directory / "public.json").read_bytes())
    key = read_certificate(directory / "old" / "old.cert").statement.public_key
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=366)
    asked = Grant(rights=("verify",), galleries=("main",), days=1).request(public, "old", key, before)
    made = certified(asked, certifiers_here(directory, public, PASSPHRASE)).encode()
    for place in directory.rglob("old.cert"):
        place.write_bytes(made)
    bench.verify(device="old")


def without_the_right(bench: Bench) -> None:
    issue(bench, "door", "--right", "verify", "--lowest", "verify=0.45")
    with Client(bench.settings("door")) as client:
        client.identify(bench.photo("door.jpg"))


def low_threshold(bench: Bench) -> None:
    issue(bench, "door", "--right", "verify", "--lowest", "verify=0.45")
    bench.verify(device="door", threshold=0.3)


def without_liveness(bench: Bench) -> None:
    issue(bench, "gate", "--right", "verify", "--demand-liveness")
    bench.verify(device="gate")


def used_up(bench: Bench) -> None:
    for _ in range(PER_DAY + 1):
        bench.verify(pairs=["ab"])


def another_version(bench: Bench) -> None:
    """A device of two releases on."""
    newer = Hello(4, 3, "0.3.0")
    with (
        mock.patch.object(speaking, "our_hello", lambda: newer),
        mock.patch.object(speaking, "our_metadata", lambda: ((HELLO_KEY, newer.write()),)),
        Client(bench.settings(pairs=["ab"])) as client,
    ):
        client.verify_embedding("ada", made_up_embedding("ada"), model=MODEL)


def after_close(bench: Bench) -> None:
    client = Client(bench.settings())
    client.close()
    client.verify("ada", bench.photo("door.jpg"))


MODEL = "sface-2021dec-fb143eea"

#: What somebody did, and how it is done here. None of them changes anything that a later one needs, but the last.
CASES: dict[str, Callable[[Bench], None]] = {
    "a photo of a wall": lambda bench: bench.verify("wall.jpg"),
    "two people in the photo": lambda bench: bench.verify("two.jpg"),
    "a face of some 20 pixels": lambda bench: bench.verify("small.jpg"),
    "a blurred photo, to enrol": blurred,
    "a file that is no photo": lambda bench: bench.verify("text.jpg"),
    "a photo that is not there": lambda bench: bench.verify("none.jpg"),
    "somebody who is not enrolled": lambda bench: bench.verify("bob.jpg", subject="bob"),
    "no `device.toml` in this folder": no_device_toml,
    "a misspelt setting": misspelt,
    "a pair whose matcher is not configured": pair_without_matcher,
    "another gallery than there is": lambda bench: bench.verify(gallery="staff"),
    "the device's key readable by others": open_key,
    "a wrong passphrase": wrong_passphrase,
    "no face models": no_models,
    "embeddings of another model than the gallery's": other_model,
    "embeddings of another dimension": wrong_dimension,
    "a face model of another dimension": other_size_of_model,
    "no server runs, or wrong addresses": nobody_listens,
    "the device's clock ten minutes behind": clock_behind,
    "the device's clock ten minutes ahead": clock_ahead,
    "a certificate that has expired": expired,
    "an operation that the certificate does not allow": without_the_right,
    "a threshold below what the certificate allows": low_threshold,
    "no `[liveness]`, where the certificate demands it": without_liveness,
    "a device two releases ahead of the servers": another_version,
    "a client that is closed": after_close,
    "one person asked about too often": used_up,
}


# -- making and writing ----------------------------------------------------------------------------


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """Start what mistakes are made with."""
    directory = folder / "installation"
    draw_photos(folder)
    hold_ceremony(directory, ParameterSet(modulus_bits=1024))
    for party in ("matcher-a", "matcher-b", "matcher-c"):
        set_budgets(directory, party, subject_requests={"day": PER_DAY})
    with ExitStack() as stack:
        parties = stack.enter_context(supervised(directory, ENVIRONMENT))
        parties.start()
        parties.wait_ready()
        world = World(directory, ParameterSet(modulus_bits=1024), parties)
        settle(world)
        made = Bench(folder, world)
        with Client(made.settings()) as client:
            client.enrol("ada", made.photo("ada.jpg"))
        yield made


def seen(case: Callable[[Bench], None], bench: Bench) -> VeilmatchError:
    """Return the error that a case ends with."""
    try:
        case(bench)
    except VeilmatchError as error:
        return error
    raise AssertionError("nothing was wrong")


def steady(text: str, bench: Bench) -> str:
    """Return a text without what another run would have otherwise."""
    for place, word in ((bench.world.directory, "installation"), (bench.folder, "photos")):
        text = text.replace(str(place), word)
    text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text)
    text = re.sub(r"\b[0-9a-f]{16,64}\b", "ID", text)
    text = re.sub(r"(matchers\.)[abc]\b", r"\1X", text)
    text = re.sub(r"(could serve: )[abc]{2}\b", r"\1YZ", text)
    text = re.sub(r"\b\d+(\.\d+)?(?= (s|seconds|minutes|hours|days)\b)", "N", text)
    return re.sub(r"matcher-[abc]\b", "matcher-X", text)


def row(did: str, error: VeilmatchError, bench: Bench) -> str:
    """Return a line of the table."""
    fields = ("budget", getattr(error, "budget", None)), ("expected", error.expected), ("got", error.got)
    said = "; ".join([error.message, *(f"{name}: {value}" for name, value in fields if value)])
    cells = [did, f"`{error.code}`, {error.exit_status}", said, hint(error)]
    return "| " + " | ".join(steady(cell, bench).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def rows(bench: Bench) -> list[str]:
    return [row(did, seen(case, bench), bench) for did, case in CASES.items()]


def table(lines: list[str]) -> str:
    head = "| you have | error, exit status | what it says | what to do, as it says |\n|---|---|---|---|\n"
    return BEGIN + head + "\n".join(lines) + "\n" + END


def written() -> str:
    """Return the table as the page has it."""
    text = PAGE.read_text()
    return text[text.index(BEGIN) : text.index(END) + len(END)]


def main() -> int:
    """Write the table."""
    with tempfile.TemporaryDirectory() as folder, bench(Path(folder)) as made:
        now = table(rows(made))
    PAGE.write_text(PAGE.read_text().replace(written(), now))
    return 0


if __name__ == "__main__":
    CapturePipeline.default()  # says what is missing before anything is started
    sys.exit(main())
