"""Device certificates: which key a device signs with, what it may ask and from which threshold on, signed by two
organisations. DESIGN.md section 9.

A certificate is a statement and signatures of organisations under it. Bytes in and bytes out: servers and commands
read the files themselves, and `veilmatch.server.transport.certification` says what the signatures are worth. One
encoding of the file only: `decode` accepts exactly what `encode` makes, byte for byte. What is signed is a digest
of the statement's fields, so that no parser stands between a signature and its meaning.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.public_key_format import INSTALLATION_BYTES
from veilmatch.crypto.errors import (
    ConfigurationError,
    DeviceCertificateError,
    DeviceRightsError,
    InvalidInputError,
    LowThresholdError,
)
from veilmatch.crypto.keys.shares import PARTIES, Party
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.requests import OPERATIONS, WITH_PROBE, Operation, check_gallery

FORMAT = "veilmatch device certificate 2"
#: Without lowest thresholds: refused, with an error that says what to do.
_OLD_FORMAT = "veilmatch device certificate 1"
#: Stands alone, for every gallery that there is or will be.
ALL_GALLERIES = ("*",)
#: How many organisations have to sign a certificate before a server goes by it.
SIGNATURES_NEEDED = 2
PUBLIC_KEY_BYTES = 32
SERIAL_BYTES = 16
SIGNATURE_BYTES = 64
MAX_GALLERIES = 64
#: No parameter set has a larger threshold: S^2 for S = 1024.
MAX_THRESHOLD = 1 << 20
#: No file is longer: 64 galleries of 64 characters, each of twelve bytes in JSON, have 49 kB.
MAX_BYTES = 1 << 16

_SIGNATURE_PREFIX = b"veilmatch device certificate v2\0"
_DEVICE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?")
_DIGITS = re.compile(r"[0-9a-f]+")
_FIELDS = {
    "format", "installation", "device", "public_key", "rights", "galleries", "lowest_thresholds", "not_before",
    "not_after", "serial", "signatures",
}  # fmt: skip
#: Times are exact as numbers of JSON.
_MAX_TIME_S = 1 << 53
_T = TypeVar("_T")


def check_device_name(name: str) -> str:
    """Return the name if a device can have it: it is a DNS label, and no daemon's name. Raises ConfigurationError."""
    if not _DEVICE_NAME.fullmatch(name) or name.startswith(("matcher-", "keyholder-", "authority")):
        raise ConfigurationError(
            "not a device's name", got=ascii(name[:60]), expected="lower-case letters, digits and hyphens"
        )
    return name


@dataclass(frozen=True)
class Statement:
    """What organisations sign about a device.

    installation: which one it is valid in. device: its name, which budgets and audit logs know it by. public_key: of
    its requests, Ed25519. rights: operations, sorted, each once. galleries: names, sorted, each once, or
    ALL_GALLERIES. lowest: the lowest threshold t that it may ask with, for exactly those rights that compare a probe,
    in the order of rights; whether the installation's parameter set has such a t is for `require_parameters`.
    not_before_s, not_after_s: Unix times, the second one excluded. serial: random; two certificates differ.
    Raises DeviceCertificateError if a field is none of that.
    """

    installation: bytes
    device: str
    public_key: bytes
    rights: tuple[Operation, ...]
    galleries: tuple[str, ...]
    lowest: tuple[tuple[Operation, int], ...]
    not_before_s: int
    not_after_s: int
    serial: bytes

    def __post_init__(self) -> None:
        try:
            check_device_name(self.device)
            for gallery in self.galleries:
                check_gallery(gallery)
        except InvalidInputError as error:
            raise DeviceCertificateError(error.message, got=error.got, expected=error.expected) from None
        if unknown := [right for right in self.rights if right not in OPERATIONS]:
            raise DeviceCertificateError("unknown rights", got=ascii(unknown[0])[:60], expected=", ".join(OPERATIONS))
        for what, right, expected in (
            ("installation", len(self.installation) == INSTALLATION_BYTES, f"{INSTALLATION_BYTES} bytes"),
            ("public_key", len(self.public_key) == PUBLIC_KEY_BYTES, f"{PUBLIC_KEY_BYTES} bytes"),
            ("serial", len(self.serial) == SERIAL_BYTES, f"{SERIAL_BYTES} bytes"),
            ("rights", _is_sorted_set(self.rights), "at least one, sorted, each once"),
            (
                "galleries",
                _is_sorted_set(self.galleries)
                and len(self.galleries) <= MAX_GALLERIES
                and ("*" not in self.galleries or self.galleries == ALL_GALLERIES),
                f"1..{MAX_GALLERIES}, sorted, each once, or * alone",
            ),
            (
                "lowest_thresholds",
                [operation for operation, _ in self.lowest] == [right for right in self.rights if right in WITH_PROBE]
                and all(1 <= t <= MAX_THRESHOLD for _, t in self.lowest),
                f"1..{MAX_THRESHOLD} for each right that compares a probe, sorted",
            ),
            ("validity", 0 <= self.not_before_s < self.not_after_s <= _MAX_TIME_S, "a beginning and a later end"),
        ):
            if not right:
                raise DeviceCertificateError("a field of the certificate has no sense", got=what, expected=expected)

    def signed_bytes(self) -> bytes:
        """Return what organisations sign: a prefix and a digest of all fields, each behind its length."""
        return _SIGNATURE_PREFIX + digest(
            "device certificate", self.installation, self.device, self.public_key,
            len(self.rights), *self.rights, len(self.galleries), *self.galleries,
            len(self.lowest), *(part for bound in self.lowest for part in bound),
            self.not_before_s, self.not_after_s, self.serial,
        )  # fmt: skip

    def require_valid(self, now_s: float) -> None:
        """Raise DeviceRightsError unless the certificate is valid at this Unix time."""
        if now_s < self.not_before_s:
            ahead = f"in {self.not_before_s - now_s:.0f} s"
            raise DeviceRightsError("the device's certificate is not valid yet: check the clocks", got=ahead)
        if now_s >= self.not_after_s:
            past = f"{now_s - self.not_after_s:.0f} s ago"
            raise DeviceRightsError("the device's certificate has expired", got=past)

    def require(self, operation: Operation, gallery: str, now_s: float) -> None:
        """Raise DeviceRightsError unless the device may do this in this gallery at this Unix time."""
        self.require_valid(now_s)
        self._require_right(operation)
        if self.galleries != ALL_GALLERIES and gallery not in self.galleries:
            raise DeviceRightsError(
                "the device's certificate gives it no right in this gallery",
                got=", ".join(self.galleries)[:200],
                expected=gallery[:60],
            )

    def require_parameters(self, parameters: ParameterSet) -> None:
        """Raise DeviceCertificateError if a lowest threshold is none of the installation's parameter set."""
        if (highest := max((t for _, t in self.lowest), default=1)) > parameters.threshold_max:
            raise DeviceCertificateError(
                "a lowest threshold of the certificate is above all scores",
                got=highest,
                expected=f"1..{parameters.threshold_max}",
            )

    def require_threshold(self, operation: Operation, t: int, parameters: ParameterSet) -> None:
        """Raise LowThresholdError if the device may not do this at a threshold as low as t, 1..S^2.

        operation: one that compares a probe; raises DeviceRightsError if the device has no right to it. parameters:
        of the installation, see `require_parameters`; the error names cosines as well.
        """
        self._require_right(operation)
        lowest = dict(self.lowest)[operation]
        if t < lowest:
            raise LowThresholdError(
                f"the device's certificate does not allow {operation} at so low a threshold",
                got=f"{t} (cosine {parameters.cosine(t)})",
                expected=f"at least {lowest} (cosine {parameters.cosine(lowest)})",
            )

    def _require_right(self, operation: Operation) -> None:
        if operation not in self.rights:
            raise DeviceRightsError(
                "the device's certificate does not give it this right", got=", ".join(self.rights), expected=operation
            )


@dataclass(frozen=True)
class DeviceCertificate:
    """A statement, and signatures under it by organisation; without any it is a request for a certificate."""

    statement: Statement
    signatures: tuple[tuple[Party, bytes], ...] = ()

    @property
    def organisations(self) -> tuple[Party, ...]:
        """Whose signatures it has, right or wrong."""
        return tuple(party for party, _ in self.signatures)

    def with_signature(self, party: Party, signature: bytes) -> DeviceCertificate:
        """Return the certificate with one signature more, or another one of the same organisation."""
        signatures = dict(self.signatures) | {party: signature}
        return DeviceCertificate(self.statement, tuple((p, signatures[p]) for p in PARTIES if p in signatures))

    def encode(self) -> bytes:
        """Return the file's content."""
        said = self.statement
        fields = {
            "format": FORMAT,
            "installation": said.installation.hex(),
            "device": said.device,
            "public_key": said.public_key.hex(),
            "rights": said.rights,
            "galleries": said.galleries,
            "lowest_thresholds": dict(said.lowest),
            "not_before": said.not_before_s,
            "not_after": said.not_after_s,
            "serial": said.serial.hex(),
            "signatures": {party: signature.hex() for party, signature in self.signatures},
        }
        return (json.dumps(fields, indent=1) + "\n").encode()

    @staticmethod
    def decode(data: bytes) -> DeviceCertificate:
        """Return what `data` holds; signatures are not verified here.

        Raises DeviceCertificateError if it is not exactly one encoding of a certificate, or of the format before.
        """
        if len(data) > MAX_BYTES:
            raise DeviceCertificateError("not a device certificate", got=f"{len(data)} bytes", expected=FORMAT)
        try:
            fields = json.loads(data)
            if isinstance(fields, dict) and fields.get("format") == _OLD_FORMAT:
                raise DeviceCertificateError(
                    "the certificate is of an older version, without lowest thresholds: request and sign a new one",
                    got=_OLD_FORMAT,
                    expected=FORMAT,
                )
            if not isinstance(fields, dict) or set(fields) != _FIELDS or fields["format"] != FORMAT:
                raise ValueError
            signatures = _typed(fields["signatures"], dict)
            read: dict[str, Any] = {
                "installation": _octets(fields["installation"]),
                "device": _typed(fields["device"], str),
                "public_key": _octets(fields["public_key"]),
                "rights": _texts(fields["rights"]),
                "galleries": _texts(fields["galleries"]),
                "lowest": tuple((o, _typed(t, int)) for o, t in _typed(fields["lowest_thresholds"], dict).items()),
                "not_before_s": _typed(fields["not_before"], int),
                "not_after_s": _typed(fields["not_after"], int),
                "serial": _octets(fields["serial"]),
            }
            signed = tuple((party, _octets(signatures[party])) for party in PARTIES if party in signatures)
            if len(signed) != len(signatures) or any(len(signature) != SIGNATURE_BYTES for _, signature in signed):
                raise ValueError
        except (ValueError, TypeError, RecursionError):
            raise DeviceCertificateError("not a device certificate", expected=FORMAT) from None
        found = DeviceCertificate(Statement(**read), signed)
        if found.encode() != data:
            raise DeviceCertificateError("not the one encoding of this certificate", expected=FORMAT)
        return found


def _is_sorted_set(names: tuple[str, ...]) -> bool:
    return bool(names) and list(names) == sorted(set(names))


def _typed(value: object, kind: type[_T]) -> _T:
    # Not isinstance: true is no integer.
    if type(value) is not kind:
        raise ValueError
    return value


def _texts(values: object) -> tuple[str, ...]:
    return tuple(_typed(value, str) for value in _typed(values, list))


def _octets(value: object) -> bytes:
    text = _typed(value, str)
    if not _DIGITS.fullmatch(text) or len(text) % 2:
        raise ValueError
    return bytes.fromhex(text)
