"""The names in all configuration files, so that a wrong file and a misspelt name are told for what they are.

Each side reads only its own files, and must still know the names of the others. Tests hold this list to the models.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable

from veilmatch.crypto.errors import ConfigurationError

PREFIX = "VEILMATCH_"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DAEMON = _names(
    """listen data_dir public_key tls organisation_key passphrase_file devices_dir revoked_dir workers
    max_clock_skew_s max_request_lifetime_s peer_timeout_s stop_s connections admission budgets log_level metrics
    traces"""
)
#: By the name that such a file usually has.
FIELDS: dict[str, frozenset[str]] = {
    "device.toml": _names(
        """device gallery matchers public_key tls signing_key certificate threshold pairs timeout_s
        request_lifetime_s proxy hedge assurance capture liveness"""
    ),
    "keyholder.toml": _DAEMON
    | _names(
        """party key_file certifier_key peers dealer_only stock_triples stock_bytes stock_products stock_searches
        stock_disk_bytes audit_file_bytes refresh_interval_s dealing"""
    ),
    "matcher.toml": _DAEMON
    | _names(
        """party key_holder peers galleries max_bulk_bytes bulk_memory_bytes max_bulk_s prepared_searches
        prepared_bytes rotation retention card_days cluster storage"""
    ),
    "ceremony.toml": _names(
        """party parameters allow_unsafe listen keys introductions fingerprints addresses installation dealer_only
        workers wait_s patience_s"""
    ),
}
#: Variables of the environment that are no field of a file.
VARIABLES = _names(
    """VEILMATCH_BACKEND VEILMATCH_CACHE VEILMATCH_CONFIG VEILMATCH_DEBUG VEILMATCH_NEW_PASSPHRASE
    VEILMATCH_PASSPHRASE VEILMATCH_TEST_KERNEL"""
)
#: What container platforms put into every environment beside a service called "veilmatch".
_SERVICE_LINK = re.compile(r"VEILMATCH_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)")


def kind_of(names: Iterable[str]) -> str | None:
    """Return the kind of file that top-level names are of; None if no kind has more of them than all others."""
    found = set(names)
    scores = sorted(((len(found & fields), name) for name, fields in FIELDS.items()), reverse=True)
    return scores[0][1] if scores[0][0] > scores[1][0] else None


def closest(name: str, names: Iterable[str]) -> str | None:
    """Return the known name that was probably meant."""
    found = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.7)
    return found[0] if found else None


def require_known_variables() -> None:
    """Refuse VEILMATCH_ variables that nothing reads, as unknown fields are refused. Raises ConfigurationError.

    One environment may configure several parties: fields of every kind of file are known.
    """
    fields = {PREFIX + name.upper() for kind in FIELDS.values() for name in kind}
    for variable in sorted(os.environ):
        name = variable.upper()
        if not name.startswith(PREFIX) or _SERVICE_LINK.fullmatch(name):
            continue
        if name.split("__")[0] not in fields | VARIABLES:
            meant = closest(name, {known.lower() for known in fields | VARIABLES})
            raise ConfigurationError(
                "an unknown variable in the environment",
                got=ascii(variable)[1:-1],
                expected=f"{PREFIX} and a field of a configuration file in capitals",
                hint=f"Did you mean {meant.upper()}?" if meant else "Unset it, if nothing of Veilmatch is meant by it.",
            )
