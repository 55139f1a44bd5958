"""The cluster itself: Ray is imported here and nowhere else, after its environment is set (guard.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import ConfigurationError, MissingExtraError, UnavailableError
from veilmatch.crypto.keys.parties import Party
from veilmatch.server.config import ClusterSettings
from veilmatch.server.matcher.cluster.actor import ShardActor, this_machine
from veilmatch.server.matcher.cluster.guard import require_private, set_environment

#: Calls of one actor that may be under way at once; workers of its own decide how many are worked on.
_AT_ONCE = 1000


class RayActors:
    """The shards as Ray actors; use `connected`."""

    def __init__(self, ray: Any, handles: Sequence[Any]) -> None:
        self._ray = ray
        self._handles = handles

    @property
    def count(self) -> int:
        """Number of shards."""
        return len(self._handles)

    async def ask(self, shard: int, method: str, *parts: bytes) -> bytes:
        """Return what a method of a shard answers. Raises UnavailableError if it is lost; Ray makes it again."""
        try:
            answer: bytes = await getattr(self._handles[shard], method).remote(*parts)
        except self._ray.exceptions.RayError as error:
            raise UnavailableError("a shard is lost", available=type(error).__name__) from None
        return answer


def require_ray() -> None:
    """Raise MissingExtraError if Ray is not installed. Imports nothing."""
    from importlib.util import find_spec

    if find_spec("ray") is None:
        raise MissingExtraError(
            "spreading packs over machines needs the extra `ray` of Veilmatch",
            got="no module ray",
            expected="pip install 'veilmatch[ray]'",
        )


@contextmanager
def connected(
    settings: ClusterSettings, party: Party, public_key: PublicKey, names: Sequence[str], database: Path | None
) -> Iterator[RayActors]:
    """Join the cluster from a node of it, and start an actor for each shard; end them all at the end.

    names: of the galleries, by number. database: the file of them, if they are in one. Raises
    ConfigurationError if the cluster is not private (guard.py), or has its dashboard on; MissingExtraError
    without Ray; UnavailableError if it cannot be joined.
    """
    require_ray()
    require_private(settings)
    set_environment(settings)
    import ray

    try:
        about = ray.init(
            address=settings.address,
            namespace=f"veilmatch-{party}",
            log_to_driver=False,
            configure_logging=False,
        )
    except (RuntimeError, OSError, ValueError, ray.exceptions.RayError) as error:
        raise UnavailableError(
            "the Ray cluster cannot be joined",
            needed="a node of it on this machine, by `ray start`, and the same Ray and Python as there",
            available=type(error).__name__,
        ) from None
    try:
        if about.dashboard_url:
            raise ConfigurationError(
                "the Ray cluster has its dashboard on", got=about.dashboard_url, expected="--include-dashboard=false"
            )
        # Lost ones are made again, and answer nothing until they are filled; calls are repeated by whoever has made
        # them, and knows for which state. Nothing of a call is noted at the head.
        actor = ray.remote(ShardActor).options(
            num_cpus=settings.cpus,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=_AT_ONCE,
            scheduling_strategy="SPREAD",
            enable_task_events=False,
        )
        place = database and str(database.absolute()), this_machine(), settings.cpus
        parts = [(index, settings.shards) for index in range(settings.shards)]
        yield RayActors(ray, [actor.remote(public_key, part, list(names), *place) for part in parts])
    finally:
        ray.shutdown()
