"""What a search of a large gallery takes of the budgets and the stock that key holders have by default, in words."""

from __future__ import annotations

from veilmatch.crypto.gates.answer import answer_bits, answer_cost
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.check.report import Report
from veilmatch.server.config import KeyHolderBudgets, KeyHolderSettings
from veilmatch.server.keyholder.stock.targets import Targets


def note_searches(gallery: str, templates: int, packs: int, parameters: ParameterSet, report: Report) -> None:
    """Note what of the defaults is too small for a gallery of this size. packs: those with a template.

    The settings of key holders are elsewhere, so this speaks of the defaults.
    """
    if not templates:
        return
    budgets = KeyHolderBudgets()
    of_device, of_gallery = (limits["day"] // templates for limits in (budgets.device_bits, budgets.gallery_bits))
    if of_device < budgets.device_searches["day"]:
        report.notes.append(
            f"gallery {gallery}: `candidates` over {templates:,} templates asks for as many answer bits. The default "
            f"budgets of a key holder allow a device {_times(of_device)} a day (device_bits) and all devices together "
            f"{_times(of_gallery)} (gallery_bits). They do not grow with the gallery: read docs/budgets.md, and raise "
            f"them in all three keyholder.toml if you have to. `identify` asks for "
            f"{answer_bits('identify', templates)} bits"
        )
    fields = KeyHolderSettings.model_fields
    used = {"triples": packs, "bits": answer_cost("identify", templates, parameters.ring_bits), "products": 0}
    one = Targets({}, 0, 0, parameters.ciphertext_bytes // 2).bytes_of(used)  # type: ignore[arg-type]
    wanted, most = fields["stock_searches"].default * one, fields["stock_disk_bytes"].default
    if used["triples"] > fields["stock_triples"].default or used["bits"] > fields["stock_bytes"].default:
        report.notes.append(
            f"gallery {gallery}: one `identify` over {templates:,} templates takes {one / 1e6:.0f} MB of dealt stock. "
            "Key holders keep more of it once they have seen one (stock_searches), and deal the rest while a search "
            "waits, which is slow"
            + (f". The default stock_disk_bytes holds only {most // one} of them" if wanted > most else "")
        )


def _times(count: int) -> str:
    return f"{count} searches" if count != 1 else "1 search"
