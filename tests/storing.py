"""What the two matchers of a pair make of their shares of templates: columns of packs, and records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.simulator import SimulatedGallery
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.scheme import Scheme
from veilmatch.crypto.packing import lanes, slots
from veilmatch.crypto.pair.messages import TemplateShare

#: The plus holder's and the minus holder's.
Shares = tuple[TemplateShare, TemplateShare]


def empty_gallery(scheme: Scheme) -> SimulatedGallery:
    """One pack of free slots."""
    return SimulatedGallery.of(scheme, np.zeros((scheme.parameters.slots, scheme.parameters.dimension), dtype=np.int64))


def store(gallery: SimulatedGallery, slot: int, shares: Shares, *, erase: bool = False) -> None:
    """Multiply both parts of one template's column into the first pack, and keep its record."""
    for share in shares:
        column = slots.lane_column(share.lanes, slot, gallery.scheme.parameters, is_plus=share.is_plus, erase=erase)
        gallery.packs[0] = _multiplied(gallery.scheme, gallery.packs[0], column)
    gallery.recorded.pop((0, slot), None)
    if not erase:
        gallery.recorded[0, slot] = records_of(gallery.scheme, shares)


def records_of(scheme: Scheme, shares: Shares) -> list[Integer]:
    """Return the records of the templates, joined, each encrypted in parts."""
    found: list[Integer] = []
    for both in each_template(scheme.parameters.dimension, shares):
        record = [scheme.encode(Integer(0))] * scheme.parameters.lane_ciphertexts
        for share in both:
            part = lanes.record_part(share.lanes, scheme.parameters, is_plus=share.is_plus)
            record = _multiplied(scheme, record, part)
        found += record
    return found


def each_template(dimension: int, shares: Shares) -> list[Shares]:
    """Return the shares of each template of a session."""
    parts = [[replace(share, lanes=x) for x in share.lanes.reshape(-1, dimension)] for share in shares]
    return list(zip(parts[0], parts[1], strict=True))


def _multiplied(scheme: Scheme, into: list[Integer], part: list[Integer]) -> list[Integer]:
    return [scheme.multiply(c, scheme.encrypt(m)) for c, m in zip(into, part, strict=True)]
