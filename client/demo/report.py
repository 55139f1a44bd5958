"""The demonstration's story for a person: a table of decisions and times, and what each party saw."""

from __future__ import annotations

import numpy as np
from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from veilmatch.client.demo.story import Story, median, medians
from veilmatch.client.results import Timings
from veilmatch.crypto.keys.parties import dealer_of

_SHOWN_BITS = 36
_STEP_LABELS = {
    "device": "device: encrypt, sign",
    "convert": "convert the probe",
    "match": "match",
    "decide": "decide",
    "total": "total, median",
}


def report(story: Story, parameter_set: str, ceremony_s: float) -> tuple[RenderableType, ...]:
    """Return the whole report; its last line says whether all decisions were exact."""
    headline = Text.from_markup(
        f"\n[bold]{len(story.subjects)} people[/bold] enrolled from one photo each · parameter set {parameter_set} · "
        f"threshold {story.threshold} · ceremony {ceremony_s:.1f} s · "
        f"embedding {1e3 * median(story.embed_s):.0f} ms · enrolment {1e3 * median(story.enrol_s):.0f} ms"
    )
    return headline, _decisions(story), _views(story), Text.from_markup(_verdict(story))


def _decisions(story: Story) -> Table:
    """One column a kind of query, so that it fits 80 characters."""
    searches = story.searches
    columns: list[tuple[str, list[bool], list[bool], list[Timings], int]] = []
    for label, genuine in (("verify,\nright person", True), ("verify,\nwrong person", False)):
        chosen = [v for v in story.verifications if v.genuine == genuine]
        columns.append(
            (
                label,
                [v.result.decision for v in chosen],
                [v.result.decision == v.expected for v in chosen],
                [v.result.timings for v in chosen],
                max(v.result.probe_bytes for v in chosen),
            )
        )
    columns.append(
        (
            f"search\namong {searches[0].result.compared}",
            [s.subject in s.result.subjects for s in searches],
            [s.result.subjects == s.expected for s in searches],
            [s.result.timings for s in searches],
            max(s.result.probe_bytes for s in searches),
        )
    )
    table = Table(title="every encrypted decision against the plaintext one")
    table.add_column("")
    for label, *_ in columns:
        table.add_column(label, justify="right")
    table.add_row("queries", *(str(len(matched)) for _, matched, *_ in columns))
    table.add_row("matched", *(str(sum(matched)) for _, matched, *_ in columns))
    exact = [_share(sum(right), len(right)) for _, _, right, *_ in columns]
    table.add_row("equal to plaintext", *exact, end_section=True)
    for step, label in _STEP_LABELS.items():
        table.add_row(label, *(f"{1e3 * medians(times)[step]:.1f} ms" for *_, times, _ in columns))
    table.add_section()
    table.add_row("sent to each matcher", *(f"{size:,} bytes" for *_, size in columns))
    return table


def _share(part: int, whole: int) -> str:
    return f"{part}/{whole}" if part == whole else f"[bold red]{part}/{whole}[/bold red]"


def _views(story: Story) -> Panel:
    """What each party saw of the last search, with values of this very run."""
    last = story.searches[-1]
    assert story.witness is not None
    request = story.witness.last_request
    shares = [_bits(share, last.result.compared) for share in last.result.shares]
    opened = _bits(bytes(x ^ y for x, y in zip(*last.result.shares, strict=True)), last.result.compared)
    ciphertext = request.ciphertexts[0]
    plus, minus, dealer = (party.upper() for party in (*last.result.pair, dealer_of(last.result.pair)))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    answer = ", ".join(last.result.subjects) or "nobody"
    for party, seen in (
        ("device", f"its own photo {last.photo}, and the answer: [bold]{answer}[/bold]"),
        ("", f"the answer's bits {opened}"),
        (f"matcher {plus} and {minus}", f"who asked, and {len(request.ciphertexts)} ciphertexts, the first one:"),
        ("", f"0x{ciphertext[:20].hex()}… ({len(ciphertext)} bytes)"),
        (f"key holder {plus}", f"its share {shares[0]}   (via matcher {plus})"),
        (f"key holder {minus}", f"its share {shares[1]}   (via matcher {minus})"),
        (f"organisation {dealer}", "nothing: it dealt random numbers before"),
    ):
        table.add_row(party, seen)
    table.add_row("", "each share alone is fair coins; their XOR, at the device, is the answer")
    title = f"what each party saw: search with {last.photo}"
    return Panel(table, title=title, expand=False)


def _bits(packed: bytes, count: int) -> str:
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), bitorder="little", count=count)
    text = "".join(map(str, bits[:_SHOWN_BITS]))
    return text + ("…" if count > _SHOWN_BITS else "")


def _verdict(story: Story) -> str:
    total = len(story.verifications) + len(story.searches)
    if story.exact:
        return f"[bold green]exact:[/bold green] all {total} encrypted answers equal the plaintext integer decisions"
    wrong = sum(v.result.decision != v.expected for v in story.verifications)
    wrong += sum(s.result.subjects != s.expected for s in story.searches)
    return f"[bold red]NOT exact:[/bold red] {wrong} of {total} encrypted answers differ from the plaintext decisions"
