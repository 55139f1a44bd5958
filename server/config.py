"""The configuration of the daemons: one TOML file each, every field checked, unknown ones refused.

    settings = MatcherSettings.load(Path("matcher.toml"))

See `veilmatch.common.settings` for the environment and for paths.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from veilmatch.common.settings import Address, Name, Settings, TlsSettings
from veilmatch.crypto.keys.parties import PARTIES, Pair, Party, pairs_among
from veilmatch.crypto.requests import MIN_LIFETIME_S

LogLevel = Literal["debug", "info", "warning", "error"]
#: The spans of time that budgets have; a month is 30 days.
Window = Literal["minute", "hour", "day", "month"]
WINDOW_S: dict[Window, int] = {"minute": 60, "hour": 3600, "day": 86400, "month": 30 * 86400}
#: The most in any span of that length; a window that is left out has no limit, 0 allows nothing.
Limits = dict[Window, Annotated[int, Field(ge=0, le=1 << 53)]]


class KeyHolderBudgets(BaseModel):
    """What key holders count: requests, searches of a gallery among them, bits of answers. See docs/budgets.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device_requests: Limits = {"minute": 300, "hour": 1500, "day": 10_000, "month": 100_000}
    device_searches: Limits = {"minute": 60, "day": 100, "month": 1000}
    device_bits: Limits = {"day": 2_000_000, "month": 20_000_000}
    gallery_requests: Limits = {"day": 200_000, "month": 2_000_000}
    gallery_searches: Limits = {"day": 1000, "month": 10_000}
    gallery_bits: Limits = {"day": 20_000_000, "month": 200_000_000}


class MatcherBudgets(BaseModel):
    """What matchers count, because they alone know the subject: verifications of each. See docs/budgets.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject_requests: Limits = {"minute": 30, "hour": 40, "day": 60, "month": 500}


class DealingLimits(BaseModel):
    """What a key holder deals to each of its peers, in blocks and commitments. See docs/operations.md.

    burst: the most at once, after a rest. per_minute: what it may ask for without end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    burst: int = Field(default=2048, ge=64, le=1 << 20)
    per_minute: int = Field(default=1200, ge=60, le=1 << 20)


class RotationSettings(BaseModel):
    """Where a rotation goes: the public key of the new installation, and the data directory of the new matcher.

    organisation_key: that of the new installation, which changes of the new gallery are signed with; if it is not
    given, the one beside the new data directory. It has the passphrase of this daemon.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    public_key: Path
    data_dir: Path
    organisation_key: Path | None = None

    @property
    def signing_key(self) -> Path:
        """The file of the new organisation's signing key."""
        return self.organisation_key or self.data_dir.parent / "organisation.key"


class DaemonSettings(Settings):
    """What both kinds of daemon have. Use `load` of one of them."""

    listen: Address
    data_dir: Path
    public_key: Path
    tls: TlsSettings
    #: The organisation's sealed signing key, and the passphrase of all sealed files of this daemon.
    organisation_key: Path = Path("organisation.key")
    passphrase_file: Path | None = None
    #: Folder of the certificates of devices, NAME.cert each.
    devices_dir: Path
    #: Folder of the recipients that this daemon refuses, ID.revoked each.
    revoked_dir: Path = Path("revoked")
    #: Workers: threads, or processes without the native kernel; 0 is one per core.
    workers: int = Field(default=0, ge=0, le=1024)
    max_clock_skew_s: float = Field(default=30.0, ge=0, le=3600)
    max_request_lifetime_s: float = Field(default=120.0, ge=MIN_LIFETIME_S, le=3600)
    peer_timeout_s: float = Field(default=5.0, gt=0, le=600)
    #: Lines of the log below this level are left out.
    log_level: LogLevel = "info"


class KeyHolderSettings(DaemonSettings):
    """keyholder.toml. key_file: the sealed key. certifier_key: sealed too, for certifying devices; the daemon does not
    need it. peers: address of the other two key holders, by letter."""

    usual_name = "keyholder.toml"

    party: Party
    key_file: Path
    certifier_key: Path = Path("certifier.key")
    peers: dict[Party, Address]
    #: An organisation that has no matcher: its pairs never serve, and no stock is kept for them.
    dealer_only: Party | None = None
    #: How much dealt stock to keep for each pair, at least: triples mod N, bytes of eight bit triples, products mod
    #: 2^64.
    stock_triples: int = Field(default=10240, ge=256)
    stock_bytes: int = Field(default=8 << 20, ge=1 << 17)
    stock_products: int = Field(default=1 << 20, ge=1 << 14)
    #: For how many of the largest search since the start to keep stock, and how much of the disk that may take, for
    #: each pair; 0 keeps no more than the least.
    stock_searches: int = Field(default=4, ge=0, le=10_000)
    stock_disk_bytes: int = Field(default=1 << 30, ge=0, le=1 << 50)
    #: A file of the audit log that has reached this size is followed by another.
    audit_file_bytes: int = Field(default=64 << 20, ge=1 << 12)
    #: How long after a refresh of the shares this key holder takes part in no other one with the same leader.
    refresh_interval_s: float = Field(default=600.0, gt=0, le=30 * 86400)
    budgets: KeyHolderBudgets = KeyHolderBudgets()
    dealing: DealingLimits = DealingLimits()

    @property
    def party_name(self) -> str:
        """The name in this daemon's certificate."""
        return f"keyholder-{self.party}"

    @property
    def served(self) -> tuple[Pair, ...]:
        """The pairs that serve in this installation."""
        return pairs_among([party for party in PARTIES if party != self.dealer_only])

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Those of them in which this key holder is: none if its organisation only deals."""
        return tuple(pair for pair in self.served if self.party in pair)

    @model_validator(mode="after")
    def _two_peers(self) -> Self:
        if set(self.peers) != set(PARTIES) - {self.party}:
            raise ValueError("peers must name the other two key holders")
        return self


class AdmissionLimits(BaseModel):
    """How many requests of devices a matcher takes; see `veilmatch.server.matcher.turns`.

    in_progress: served at once; 0 is three for each core. waiting: most that wait for their turn; 0 is sixteen for each
    that is in progress. wait_s: how long one waits before it is told to come again. All matchers have the same.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_progress: int = Field(default=0, ge=0, le=10_000)
    waiting: int = Field(default=0, ge=0, le=100_000)
    wait_s: float = Field(default=2.0, gt=0, le=60)

    def resolved(self, cores: int) -> tuple[int, int]:
        """Return how many are served at once, and how many wait, on a machine with so many cores."""
        at_once = self.in_progress or 3 * cores
        return at_once, self.waiting or 16 * at_once


class ClusterSettings(BaseModel):
    """A Ray cluster of this organisation that holds the packs. See docs/cluster.md.

    address: of its head. token_file: the token that every node has. tls: what this matcher shows to the cluster, and
    who must have signed what it is shown. shards: actors; cpus: cores of each. wait_s: how long a query waits for a
    shard that is lost or behind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Address
    token_file: Path
    tls: TlsSettings
    shards: int = Field(ge=1, le=4096)
    cpus: int = Field(default=1, ge=1, le=1024)
    wait_s: float = Field(default=3.0, gt=0, le=600)


class MatcherSettings(DaemonSettings):
    """matcher.toml. key_holder: address of that of the same organisation. peers: of the other matchers, by letter; an
    organisation that only deals has none."""

    usual_name = "matcher.toml"

    party: Party
    key_holder: Address
    peers: dict[Party, Address] = Field(min_length=1)
    galleries: list[Name] = Field(default=["main"], min_length=1)
    #: Largest bulk enrolment: it is held in memory while it arrives.
    max_bulk_bytes: int = Field(default=1 << 28, ge=1 << 20)
    #: The same of all unfinished bulk enrolments together; 0 is two of the largest.
    bulk_memory_bytes: int = Field(default=0, ge=0)
    #: How long one may take to arrive.
    max_bulk_s: float = Field(default=900.0, gt=0, le=86400)
    budgets: MatcherBudgets = MatcherBudgets()
    admission: AdmissionLimits = AdmissionLimits()
    #: Set while the galleries are brought under a new key.
    rotation: RotationSettings | None = None
    #: Set where the packs are not held by this process.
    cluster: ClusterSettings | None = None

    @property
    def party_name(self) -> str:
        """The name in this daemon's certificate."""
        return f"matcher-{self.party}"

    @property
    def all_bulk_bytes(self) -> int:
        """Most bytes of unfinished bulk enrolments in memory."""
        return self.bulk_memory_bytes or 2 * self.max_bulk_bytes

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.party in self.peers:
            raise ValueError("peers must name other matchers")
        if len(set(self.galleries)) != len(self.galleries):
            raise ValueError("galleries must be different")
        if self.all_bulk_bytes < self.max_bulk_bytes:
            raise ValueError("bulk_memory_bytes must be 0 or at least max_bulk_bytes")
        if self.cluster is not None and self.cluster.wait_s >= self.peer_timeout_s:
            raise ValueError("wait_s of the cluster must be below peer_timeout_s: another matcher waits no longer")
        return self
