"""The listener: who is answered, and what somebody can do to it who asks without end, or never ends."""

from __future__ import annotations

import datetime
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from veilmatch.common import watched
from veilmatch.crypto.errors import ConfigurationError, KeyFileError
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.files import write_file
from veilmatch.server.monitoring import listener
from veilmatch.server.monitoring.listener import PER_S, THREADS, Listener, Page, kept
from veilmatch.server.monitoring.settings import MetricsSettings, MetricsTls

TOKEN = "0123456789abcdef"


@contextmanager
def listening(**settings: object) -> Iterator[tuple[str, int]]:
    chosen = MetricsSettings(listen="127.0.0.1:0", **settings)  # type: ignore[arg-type]
    pages, open_pages = {"/metrics": lambda: Page(200, b"m")}, {"/livez": lambda: Page(200, b"alive")}
    with Listener(chosen, pages, open_pages) as one:
        yield one.address


def get(address: tuple[str, int], path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*address, timeout=15)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def secret(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_text(text + "\n")
    path.chmod(mode)
    return path


def test_pages_are_served_and_nothing_else() -> None:
    with listening() as address:
        assert get(address, "/metrics") == (200, b"m") == get(address, "/metrics?x=1")
        assert get(address, "/livez") == (200, b"alive")
        assert get(address, "/")[0] == 404
        connection = http.client.HTTPConnection(*address, timeout=15)
        connection.request("POST", "/metrics", body=b"x")
        assert connection.getresponse().status == 501


def test_metrics_need_the_token_and_probes_do_not(tmp_path: Path) -> None:
    with listening(token_file=secret(tmp_path, TOKEN)) as address:
        for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": TOKEN}, {"Authorization": "Bearer \xe9"}):
            assert get(address, "/metrics", **headers)[0] == 401
        assert get(address, "/metrics", Authorization=f"Bearer {TOKEN}") == (200, b"m")
        assert get(address, "/livez")[0] == 200


def test_a_token_that_is_none_is_refused(tmp_path: Path) -> None:
    for text in ("short", "two words that are long", ""):
        with (
            pytest.raises(ConfigurationError, match="no token for metrics"),
            listening(token_file=secret(tmp_path, text)),
        ):
            pass
    with pytest.raises(KeyFileError), listening(token_file=secret(tmp_path, TOKEN, 0o644)):
        pass
    with pytest.raises(ConfigurationError, match="cannot be read"), listening(token_file=tmp_path / "none"):
        pass


def test_an_address_in_use_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = "{}:{}".format(*other.getsockname())
        with pytest.raises(ConfigurationError, match="cannot listen for metrics"):
            Listener(MetricsSettings(listen=address), {}, {})


class Scrapers:
    """Who may try to scrape, with files of one authority."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.authority = folder, Authority.fresh()
        (folder / "ca.pem").write_bytes(self.authority.certificate_pem())
        for name in ("matcher-a", "prometheus", "device-1"):
            self.issue(name)

    def issue(self, name: str) -> None:
        certificate, key = self.authority.issue(name)
        write_file(self.folder / f"{name}-key.pem", key, secret=True)
        write_file(self.folder / f"{name}.pem", certificate)

    def certificate(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.folder / f"{name}.pem").read_bytes())

    def tls(self, name: str, crl: Path | None = None) -> MetricsTls:
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        return MetricsTls(authority=self.folder / "ca.pem", certificate=certificate, key=key, crl=crl)

    def status(
        self, address: tuple[str, int], name: str | None, most: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
    ) -> int | None:
        """What one is answered that speaks versions up to this, None if it is not; `shown` is what was shown to it."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        context.maximum_version = most
        if name is not None:
            context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}-key.pem")
        try:
            with (
                socket.create_connection(address, timeout=15) as plain,
                context.wrap_socket(plain, server_hostname="matcher-a") as over,
            ):
                self.shown = over.getpeercert(binary_form=True)
                over.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                line = over.makefile("rb").readline().split()
                return int(line[1]) if line else None
        except (ssl.SSLError, ConnectionError):
            return None


@pytest.fixture
def scrapers(tmp_path: Path) -> Scrapers:
    return Scrapers(tmp_path)


def test_over_tls_only_named_clients_are_answered(scrapers: Scrapers) -> None:
    with listening(tls=scrapers.tls("matcher-a"), clients=["prometheus"]) as address:
        assert scrapers.status(address, "prometheus") == 200
        assert scrapers.status(address, "device-1") is scrapers.status(address, None) is None
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            get(address, "/metrics")


def test_whoever_has_tls_1_2_alone_is_not_answered(scrapers: Scrapers) -> None:
    with listening(tls=scrapers.tls("matcher-a"), clients=["prometheus"]) as address:
        assert scrapers.status(address, "prometheus", ssl.TLSVersion.TLSv1_3) == 200
        assert scrapers.status(address, "prometheus", ssl.TLSVersion.TLSv1_2) is None


def test_a_client_with_several_names_is_not_answered(scrapers: Scrapers, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in ("device-1", "prometheus")]
    monkeypatch.setattr("veilmatch.server.installation.authority._name", lambda _: x509.Name(names))
    scrapers.issue("device-1")
    with listening(tls=scrapers.tls("matcher-a"), clients=["prometheus", "device-1"]) as address:
        assert scrapers.status(address, "device-1") is None
        assert scrapers.status(address, "prometheus") == 200


def test_a_client_that_was_revoked_is_not_answered_and_files_are_followed(
    scrapers: Scrapers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "LOOK_S", 0.0)
    crl, stolen = scrapers.folder / "crl.pem", scrapers.certificate("prometheus")
    write_file(crl, scrapers.authority.revocation_list({}, 1))
    with listening(tls=scrapers.tls("matcher-a", crl), clients=["prometheus"]) as address:
        assert scrapers.status(address, "prometheus") == 200
        revoked = {stolen.serial_number: datetime.datetime.now(datetime.UTC)}
        write_file(crl, scrapers.authority.revocation_list(revoked, 2))
        assert scrapers.status(address, "prometheus") is None
        with capture_logs() as logged:
            write_file(crl, scrapers.authority.revocation_list({}, 1))
            assert [scrapers.status(address, "prometheus") for _ in range(3)] == [None] * 3
        assert [line["event"] for line in logged] == ["alert"] and "number 2 is in use" in logged[0]["reason"]
        write_file(crl, scrapers.authority.revocation_list(revoked, 3))
        scrapers.issue("prometheus")
        scrapers.issue("matcher-a")
        assert scrapers.status(address, "prometheus") == 200
        assert scrapers.shown == scrapers.certificate("matcher-a").public_bytes(serialization.Encoding.DER)


def test_who_never_ends_is_ended_and_others_are_served_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "WHOLE_S", 1.0)
    with listening() as address, ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(address)) for _ in range(THREADS)]
        trickling = threading.Event()

        def trickle() -> None:
            while not trickling.wait(0.1):
                for one in slow:
                    try:
                        one.sendall(b"G")
                    except OSError:
                        return

        thread = threading.Thread(target=trickle)
        thread.start()
        time.sleep(0.3)
        # All threads are taken: another connection is closed at once.
        with socket.create_connection(address) as other:
            other.settimeout(5)
            assert other.recv(1) == b""
        time.sleep(2.5)
        trickling.set()
        thread.join()
        assert get(address, "/metrics") == (200, b"m")


def test_a_flood_is_accepted_slowly() -> None:
    with listening() as address:
        began, done = time.monotonic(), 0
        while time.monotonic() - began < 3.0:
            try:
                get(address, "/metrics")
                done += 1
            except (OSError, http.client.HTTPException):
                pass
        # A second's worth at once, then so many a second; the one that is due at the very end may be counted too.
        assert done <= PER_S * (time.monotonic() - began + 1) + 1


def test_a_page_is_made_once_in_a_while() -> None:
    made = []

    def make() -> Page:
        made.append(1)
        return Page(200, str(len(made)).encode())

    page = kept(make, 0.3)
    assert [page().body for _ in range(5)] == [b"1"] * 5
    time.sleep(0.35)
    assert page().body == b"2"
