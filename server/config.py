"""The configuration of the daemons: one TOML file each, every field checked, unknown ones refused.

    settings = MatcherSettings.load(Path("matcher.toml"))

See `veilmatch.common.settings` for the environment and for paths.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from veilmatch.common.settings import Address, Name, Settings, TlsSettings
from veilmatch.crypto.keys.parties import PARTIES, Pair, Party, pairs_among
from veilmatch.crypto.requests import MIN_LIFETIME_S
from veilmatch.server.bounds import AdmissionLimits, ConnectionLimits, SessionLimits
from veilmatch.server.monitoring.settings import MetricsSettings, TracesSettings

LogLevel = Literal["debug", "info", "warning", "error"]
#: The spans of time that budgets have; a month is 30 days.
Window = Literal["minute", "hour", "day", "month"]
WINDOW_S: dict[Window, int] = {"minute": 60, "hour": 3600, "day": 86400, "month": 30 * 86400}
#: The most in any span of that length; a window that is left out has no limit, 0 allows nothing.
Limits = dict[Window, Annotated[int, Field(ge=0, le=1 << 53)]]


def _database_url(value: str) -> str:
    """Return a URL of PostgreSQL as it is. Raises ValueError, whose text quotes nothing of it."""
    parts = urlsplit(value)
    if parts.scheme != "postgresql" or not parts.path.strip("/"):
        raise ValueError("must be postgresql://USER@HOST/DATABASE")
    fields = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.password is not None or "password" in query:
        raise ValueError("must have no password in it: put that into a file, mode 0600, and name it password_file")
    # Of two of one name the driver may take the other one; and a service says elsewhere where the server is.
    if len(set(fields)) != len(fields) or {"service", "dbname", "passfile"} & set(fields):
        raise ValueError("must name each field once, and neither service, dbname nor passfile")
    hosts = [host for name in ("host", "hostaddr") for host in query.get(name, "").split(",") if host]
    is_here = all(host.startswith("/") or host in ("localhost", "127.0.0.1", "::1") for host in hosts or ["/"])
    is_here &= parts.hostname in (None, "localhost", "127.0.0.1", "::1")
    if not is_here and query.get("sslmode") != "verify-full":
        raise ValueError("must end in ?sslmode=verify-full for a server on another machine (docs/storage.md)")
    return value


DatabaseUrl = Annotated[str, AfterValidator(_database_url)]


class KeyHolderBudgets(BaseModel):
    """What key holders count: requests, searches of a gallery among them, bits of answers. See docs/budgets.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device_requests: Limits = {"minute": 300, "hour": 1500, "day": 10_000, "month": 100_000}
    device_searches: Limits = {"minute": 60, "day": 100, "month": 1000}
    device_bits: Limits = {"day": 2_000_000, "month": 20_000_000}
    gallery_requests: Limits = {"day": 200_000, "month": 2_000_000}
    gallery_searches: Limits = {"day": 1000, "month": 10_000}
    gallery_bits: Limits = {"day": 20_000_000, "month": 200_000_000}
    #: Presentations of one card.
    card_requests: Limits = {"minute": 30, "hour": 40, "day": 60, "month": 500}


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


class DaemonTls(TlsSettings):
    """The PEM files of a daemon. crl: which certificates its authorities have taken back; see docs/certificates.md."""

    crl: Path | None = None


class StorageSettings(BaseModel):
    """A PostgreSQL database for the galleries of a matcher, in place of gallery.db. See docs/storage.md.

    url: postgresql://USER@HOST/DATABASE, without a password. password_file: read at every connection.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: DatabaseUrl
    password_file: Path | None = None

    def __str__(self) -> str:
        return self.url


#: A data directory, with gallery.db in it, or a PostgreSQL database.
GalleriesIn = Path | StorageSettings


class RotationSettings(BaseModel):
    """Where a rotation goes: the public key of the new installation, and the data directory of the new matcher.

    storage: of the new matcher, if its galleries are not in that directory. organisation_key: that of the new
    installation, which changes of the new gallery are signed with; if it is not given, the one beside the new data
    directory. It has the passphrase of this daemon.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    public_key: Path
    data_dir: Path
    storage: StorageSettings | None = None
    organisation_key: Path | None = None

    @property
    def signing_key(self) -> Path:
        """The file of the new organisation's signing key."""
        return self.organisation_key or self.data_dir.parent / "organisation.key"

    @property
    def galleries_in(self) -> GalleriesIn:
        """Where the new galleries are kept."""
        return self.storage or self.data_dir


class DaemonSettings(Settings):
    """What both kinds of daemon have. Use `load` of one of them."""

    listen: Address
    data_dir: Path
    public_key: Path
    tls: DaemonTls
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
    #: How long requests that are being served may go on after SIGTERM.
    stop_s: float = Field(default=10.0, ge=0, le=3600)
    connections: ConnectionLimits = ConnectionLimits()
    #: Lines of the log below this level are left out.
    log_level: LogLevel = "info"
    #: Set where metrics are scraped, and where traces are sent to.
    metrics: MetricsSettings | None = None
    traces: TracesSettings | None = None


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
    admission: SessionLimits = SessionLimits()

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


class RetentionSettings(BaseModel):
    """How long templates of one gallery are kept; whose consent has ended is not kept in any case.

    max_days: since they were enrolled, 0 for no end. idle_days: whole days on which nobody asked this organisation to
    verify the subject, 0 for no end; it does not know whether an answer was a match. What two organisations both say is
    due is erased when a device asks for it: `veilmatch retain`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_days: int = Field(default=0, ge=0, le=36500)
    idle_days: int = Field(default=0, ge=0, le=36500)


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
    #: For how many searches of the largest gallery encryptions of zero are made ahead, at rest, and what they may take.
    prepared_searches: int = Field(default=0, ge=0, le=10_000)
    prepared_bytes: int = Field(default=64 << 20, ge=0, le=1 << 40)
    budgets: MatcherBudgets = MatcherBudgets()
    admission: AdmissionLimits = AdmissionLimits()
    #: By gallery. Those that are not named keep every template until it is erased.
    retention: dict[Name, RetentionSettings] = Field(default={})
    #: Days that a card may be good for; the shorter of two organisations counts.
    card_days: int = Field(default=1827, ge=1, le=36525)
    #: Set while the galleries are brought under a new key.
    rotation: RotationSettings | None = None
    #: Set where the packs are not held by this process.
    cluster: ClusterSettings | None = None
    #: Set where the galleries are not in gallery.db of the data directory.
    storage: StorageSettings | None = None

    @property
    def party_name(self) -> str:
        """The name in this daemon's certificate."""
        return f"matcher-{self.party}"

    @property
    def galleries_in(self) -> GalleriesIn:
        """Where the galleries are kept."""
        return self.storage or self.data_dir

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
        if others := self.retention.keys() - set(self.galleries):
            raise ValueError(f"retention of a gallery that is not served here: {min(others)}")
        if self.all_bulk_bytes < self.max_bulk_bytes:
            raise ValueError("bulk_memory_bytes must be 0 or at least max_bulk_bytes")
        if self.cluster is not None and self.prepared_searches:
            raise ValueError("prepared_searches is for packs that this process holds, not for a cluster")
        if self.cluster is not None and self.cluster.wait_s >= self.peer_timeout_s:
            raise ValueError("wait_s of the cluster must be below peer_timeout_s: another matcher waits no longer")
        return self
