"""Is the cluster of a matcher private, and there? For `veilmatch check`, and for `veilmatch doctor`, which finds
`require_usable` by its entry point."""

from __future__ import annotations

from pathlib import Path

from veilmatch.crypto.errors import VeilmatchError
from veilmatch.server.check.report import Report
from veilmatch.server.config import ClusterSettings, MatcherSettings
from veilmatch.server.matcher.cluster.guard import require_private
from veilmatch.server.matcher.cluster.nodes import require_ray

_FILE = "matcher.toml"
_REMEDY = "docs/cluster.md says how a cluster is started; the matcher does not start with one that is not private"


def check_cluster(settings: ClusterSettings, report: Report) -> None:
    """Look whether the matcher would join this cluster."""
    try:
        _require(settings)
        report.saw(_FILE, f"[cluster] {settings.address}: TLS and a token are asked for")
    except VeilmatchError as error:
        report.found(_FILE, "[cluster]", error, error.expected or _REMEDY)


def require_usable(folder: Path) -> None:
    """Raise what a matcher of this folder would end with for its cluster; nothing where it has none."""
    if (folder / _FILE).is_file():
        settings = MatcherSettings.load(folder / _FILE)
        if settings.cluster is not None:
            _require(settings.cluster)


def _require(settings: ClusterSettings) -> None:
    require_ray()
    require_private(settings)
