"""What can be read off a daemon at any time: gauges, made when somebody asks, in the event loop of the daemon.

Counting costs every request something; reading costs what is asked for. The thread that answers a scrape has the loop
read (`Snapshots`), so that nothing is read while it changes, and gets the last readings of a loop that does not answer.
What lies on a disk is read in a thread of its own (`Apart`): one that hangs holds up neither the loop nor a scrape.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitedTooLong

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from veilmatch.server.ground.logs import unforeseen

#: Names without their prefix, what they say, and their labels.
GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "build_info": ("What runs: always 1.", ("party", "version", "backend", "parameters", "python")),
    "loop_responds": ("Whether the event loop answered when this was asked: all gauges are old otherwise.", ()),
    "ready": ("Whether at least one pair can be served here.", ()),
    "pair_available": ("Whether both organisations of a pair say that they can serve.", ("pair",)),
    "pairs_available": ("How many pairs of organisations can serve.", ()),
    "pairs_expected": ("How many pairs of organisations there are in this installation.", ()),
    "pairs_refilled": ("How many available pairs have a dealer that can be reached.", ()),
    "peer_up": ("Whether another server answered when it was last asked.", ("peer",)),
    "peer_protocol_version": ("The newest version of the protocol that another server says it speaks.", ("peer",)),
    "peer_understood": ("Whether another server and this one speak a version of the protocol in common.", ("peer",)),
    "protocol_version": ("The newest version of the protocol that is spoken here.", ()),
    "protocol_oldest_version": ("The oldest version of the protocol that is spoken here.", ()),
    "peer_clock_difference_seconds": ("How far the clock of another server is ahead of this one.", ("peer",)),
    "certificate_expiry_timestamp_seconds": (
        "When a certificate ends, of devices the first one, or the next revocation list is due.", ("role",)
    ),
    "revocation_list_number": ("The last revocation list of an organisation that is known here.", ("organisation",)),
    "revoked_certificates": ("Certificates that two organisations have revoked, as far as it is known here.", ()),
    "half_revoked_certificates": ("Certificates that one organisation alone has revoked: they are served.", ()),
    "disk_free_bytes": ("Room for data on the disk of the data directory.", ()),
    "backup_timestamp_seconds": ("When the last backup was made; 0: never.", ()),
    "workers": ("Workers of this daemon.", ()),
    "turns": ("Requests that have their turn, and that wait for it.", ("lane", "state")),
    "turns_limit": ("The most of them.", ("lane", "state")),
    "connections": ("Connections here, that have made a call and that have not yet.", ("called",)),
    "connections_limit": ("The most of them.", ()),
    "epoch": ("The epoch of the shares in use.", ()),
    "refresh_unsettled": ("Whether a refresh of the shares is not finished everywhere.", ()),
    "stock_units": ("Dealt stock that is here and unused.", ("pair", "kind")),
    "stock_target_units": ("How much of it is to be kept, at least.", ("kind",)),
    "audit_last_entry_timestamp_seconds": ("When the last entry of the audit log was on disk.", ()),
    "audit_entries": ("Entries of the audit log.", ()),
    "gallery_sequence": ("Changes of a gallery.", ("gallery",)),
    "gallery_templates": ("Templates of a gallery.", ("gallery",)),
    "gallery_behind_changes": ("By how many changes other matchers say that they are ahead.", ("gallery",)),
    "gallery_behind_seconds": ("For how long this copy has been behind.", ("gallery",)),
    "gallery_restored": ("Whether this copy was restored, and has not met everybody yet.", ("gallery",)),
}  # fmt: skip
PREFIX = "veilmatch_"
#: By name, and by the values of the labels.
Readings = Mapping[str, Mapping[tuple[str, ...], float]]


class Apart:
    """Readings that may take for ever, made by one thread at a time, which nobody waits for at the end.

    read: called in that thread. within_s: how long whoever asks waits for it.
    """

    def __init__(self, read: Callable[[], Readings], within_s: float = 1.0) -> None:
        self._read = read
        self._within_s = within_s
        self._asked: Future[Readings] | None = None
        self._failing = _Failing()

    def take(self) -> Readings:
        """Return the readings of now; none if they cannot be made, or are late. One thread asks at a time."""
        if self._asked is not None and not self._asked.done():
            return {}
        self._asked = asked = Future[Readings]()
        threading.Thread(target=_answer, args=(asked, self._read), name="readings", daemon=True).start()
        try:
            found = asked.result(self._within_s)
        except WaitedTooLong:
            return {}
        except Exception as error:
            self._failing.say(error)
            return {}
        self._failing.is_over()
        return found


class Snapshots(Collector):
    """The readings of one daemon, for the threads that are asked for them.

    read: called in the loop. within_s: how long the loop has to answer. apart: what is read elsewhere, for metrics.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, read: Callable[[], Readings], within_s: float = 1.0,
        apart: Apart | None = None,
    ) -> None:  # fmt: skip
        self._loop = loop
        self._read = read
        self._within_s = within_s
        self._apart = apart
        self._last: Readings = {}
        self._asking = threading.Lock()
        self._failing = _Failing()

    def collect(self) -> Iterable[Metric]:
        """Return all gauges that have a value."""
        found = self.take()[0]
        return _families({**found, **(self._apart.take() if self._apart is not None else {})})

    def take(self) -> tuple[Readings, bool]:
        """Return the readings, and whether they are of now. Waits for the loop; never called in it."""
        with self._asking:
            asked: Future[Readings] = Future()
            try:
                self._loop.call_soon_threadsafe(self._read_for, asked)
                self._last, responds = asked.result(self._within_s), True
                self._failing.is_over()
            except (RuntimeError, WaitedTooLong):  # the loop is over, or busy
                asked.cancel()
                responds = False
            except Exception as error:
                responds = True
                self._failing.say(error)
            self._last = {**self._last, "loop_responds": {(): float(responds)}}
            return self._last, responds

    def _read_for(self, asked: Future[Readings]) -> None:
        if asked.set_running_or_notify_cancel():
            _answer(asked, self._read)


class Pulse:
    """Whether the loop runs: it notes the time every second. Read from any thread."""

    def __init__(self) -> None:
        self._beat = time.monotonic()

    async def beat(self) -> None:
        """Go on for ever."""
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(1.0)

    def is_alive(self, within_s: float = 10.0) -> bool:
        """Return whether it has beaten lately."""
        return time.monotonic() - self._beat < within_s


class _Failing:
    """Whether readings cannot be made: said once, as it will be so at every scrape."""

    def __init__(self) -> None:
        self._is_said = False

    def say(self, error: Exception) -> None:
        if not self._is_said:
            unforeseen(error, "metrics could not be read: those of before are shown, or none")
        self._is_said = True

    def is_over(self) -> None:
        self._is_said = False


def _answer(asked: Future[Readings], read: Callable[[], Readings]) -> None:
    try:
        asked.set_result(read())
    except Exception as error:
        asked.set_exception(error)


def _families(readings: Readings) -> Iterable[Metric]:
    for name, (text, labels) in GAUGES.items():
        family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
        for values, value in readings.get(name, {}).items():
            family.add_metric(values, value)
        yield family
