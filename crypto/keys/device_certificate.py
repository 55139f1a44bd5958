"""Device certificates: which key a device signs with, what it may ask and from which threshold on, signed by two
organisations. docs/security-argument.md.

The file is that of `signed_by_two`, and `veilmatch.server.admission.certification` says what the signatures are worth.
What is signed is a digest of the statement's fields, so that no parser stands between a signature and its meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.public_key_format import INSTALLATION_BYTES
from veilmatch.crypto.errors import (
    ConfigurationError,
    DeviceCertificateError,
    DeviceRightsError,
    InvalidInputError,
    LowThresholdError,
)
from veilmatch.crypto.keys.signed_by_two import MAX_TIME_S, SERIAL_BYTES, SignedByTwo, octets, rough_span, typed
from veilmatch.crypto.liveness import ANY_DETECTOR, MAX_DETECTORS, Verdict, is_demand, require_demanded
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.requests import OPERATIONS, WITH_PROBE, Operation, check_gallery

FORMAT = "veilmatch device certificate 2"
#: Of certificates that give rights for a recipient only; all others mean what they meant.
FORMAT_RECIPIENT_ONLY = "veilmatch device certificate 3"
#: Of certificates that demand a verdict of liveness.
FORMAT_LIVENESS = "veilmatch device certificate 4"
#: Without lowest thresholds: refused, with an error that says what to do.
_OLD_FORMAT = "veilmatch device certificate 1"
#: Stands alone, for every gallery that there is or will be.
ALL_GALLERIES = ("*",)
PUBLIC_KEY_BYTES = 32
MAX_GALLERIES = 64
#: No parameter set has a larger threshold: S^2 for S = 1024.
MAX_THRESHOLD = 1 << 20
#: No file is longer: 64 galleries of 64 characters, each of twelve bytes in JSON, have 49 kB.
MAX_BYTES = 1 << 16

_SIGNATURE_PREFIX = b"veilmatch device certificate v2\0"
_SIGNATURE_PREFIX_RECIPIENT_ONLY = b"veilmatch device certificate v3\0"
_SIGNATURE_PREFIX_LIVENESS = b"veilmatch device certificate v4\0"
_DEVICE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?")
_FIELDS = frozenset((
    "installation", "device", "public_key", "rights", "galleries", "lowest_thresholds", "not_before", "not_after",
    "serial",
))  # fmt: skip


def check_device_name(name: str) -> str:
    """Return the name if a device can have it: it is a DNS label, and no daemon's name. Raises ConfigurationError."""
    if not _DEVICE_NAME.fullmatch(name) or name.startswith(("matcher-", "keyholder-", "organisation-", "authority")):
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
    recipient_only: it may compare a probe only if the answer is sealed to a recipient, so that it does not learn it; at
    least one of its rights compares then. liveness: which detectors of liveness it may compare a probe after, ids in
    hex, sorted, each once, or ANY_DETECTOR; () demands none, and otherwise at least one right
    compares. Raises DeviceCertificateError if a field is none of that.
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
    recipient_only: bool = False
    liveness: tuple[str, ...] = ()

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
            ("recipient_only", bool(self.lowest) or not self.recipient_only, "a right that compares a probe"),
            (
                "liveness",
                is_demand(self.liveness) and bool(self.lowest or not self.liveness),
                f"1..{MAX_DETECTORS} SHA-256 in hex, sorted, each once, or {ANY_DETECTOR[0]} alone, and a right"
                " that compares a probe",
            ),
            ("validity", 0 <= self.not_before_s < self.not_after_s <= MAX_TIME_S, "a beginning and a later end"),
        ):
            if not right:
                raise DeviceCertificateError("a field of the certificate has no sense", got=what, expected=expected)

    @property
    def id(self) -> bytes:
        """32 bytes that name this very certificate, whoever signs it: a digest of what is signed."""
        return digest("device certificate id", self.signed_bytes())

    def signed_bytes(self) -> bytes:
        """Return what organisations sign: a prefix and a digest of all fields, each behind its length.

        The prefix says `recipient_only`; with `liveness` it is a field beside it.
        """
        prefix = _SIGNATURE_PREFIX_RECIPIENT_ONLY if self.recipient_only else _SIGNATURE_PREFIX
        demanded: tuple[int | str, ...] = ()
        if self.liveness:
            prefix = _SIGNATURE_PREFIX_LIVENESS
            demanded = (int(self.recipient_only), len(self.liveness), *self.liveness)
        return prefix + digest(
            "device certificate", self.installation, self.device, self.public_key,
            len(self.rights), *self.rights, len(self.galleries), *self.galleries,
            len(self.lowest), *(part for bound in self.lowest for part in bound),
            self.not_before_s, self.not_after_s, self.serial, *demanded,
        )  # fmt: skip

    def require_valid(self, now_s: float) -> None:
        """Raise DeviceRightsError unless the certificate is valid at this Unix time."""
        if now_s < self.not_before_s:
            ahead = f"in {self.not_before_s - now_s:.0f} s"
            raise DeviceRightsError("the device's certificate is not valid yet: check the clocks", got=ahead)
        if now_s >= self.not_after_s:
            past = f"{rough_span(now_s - self.not_after_s)} ago"
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

    def require_recipient(self, operation: Operation, named: bool) -> None:
        """Raise DeviceRightsError if the device may ask this for a recipient only. named: whether it has named one."""
        if self.recipient_only and operation in WITH_PROBE and not named:
            raise DeviceRightsError(
                "the device's certificate allows it to ask for a recipient only",
                got=f"{operation} without a recipient",
                expected="a recipient",
            )

    def require_liveness(self, operation: Operation, verdict: Verdict | None, issued_at_ms: int) -> None:
        """Raise LivenessDemandedError unless the request has the verdict that the device has to have to compare.

        issued_at_ms: of the request, Unix time by the clock of the device.
        """
        if operation in WITH_PROBE:
            require_demanded(self.liveness, verdict, issued_at_ms, operation)

    def _require_right(self, operation: Operation) -> None:
        if operation not in self.rights:
            raise DeviceRightsError(
                "the device's certificate does not give it this right", got=", ".join(self.rights), expected=operation
            )


@dataclass(frozen=True)
class DeviceCertificate(SignedByTwo[Statement]):
    """A statement, and signatures under it by organisation; without any it is a request for a certificate.

    The format says no more than it has to: servers from before format 3 or 4 go by a certificate that does not need
    it, and refuse one that does.
    """

    error = DeviceCertificateError
    kind = "device certificate"
    formats = MappingProxyType(
        {
            FORMAT: _FIELDS,
            FORMAT_RECIPIENT_ONLY: _FIELDS | {"recipient_only"},
            FORMAT_LIVENESS: _FIELDS | {"recipient_only", "liveness"},
        }
    )
    older = MappingProxyType(
        {_OLD_FORMAT: "the certificate is of an older version, without lowest thresholds: request and sign a new one"}
    )
    max_bytes = MAX_BYTES

    def _written(self) -> tuple[str, dict[str, Any]]:
        said = self.statement
        fields = {
            "installation": said.installation.hex(),
            "device": said.device,
            "public_key": said.public_key.hex(),
            "rights": said.rights,
            "galleries": said.galleries,
            "lowest_thresholds": dict(said.lowest),
            **({"recipient_only": said.recipient_only} if said.recipient_only or said.liveness else {}),
            **({"liveness": said.liveness} if said.liveness else {}),
            "not_before": said.not_before_s,
            "not_after": said.not_after_s,
            "serial": said.serial.hex(),
        }
        if said.liveness:
            return FORMAT_LIVENESS, fields
        return FORMAT_RECIPIENT_ONLY if said.recipient_only else FORMAT, fields

    @classmethod
    def _read(cls, fields: Mapping[str, Any]) -> Statement:
        return Statement(
            installation=octets(fields["installation"]),
            device=typed(fields["device"], str),
            public_key=octets(fields["public_key"]),
            rights=_texts(fields["rights"]),  # type: ignore[arg-type]
            galleries=_texts(fields["galleries"]),
            lowest=tuple((o, typed(t, int)) for o, t in typed(fields["lowest_thresholds"], dict).items()),
            not_before_s=typed(fields["not_before"], int),
            not_after_s=typed(fields["not_after"], int),
            serial=octets(fields["serial"]),
            recipient_only=typed(fields.get("recipient_only", False), bool),
            liveness=_texts(fields.get("liveness", [])),
        )


def _is_sorted_set(names: tuple[str, ...]) -> bool:
    return bool(names) and list(names) == sorted(set(names))


def _texts(values: object) -> tuple[str, ...]:
    return tuple(typed(value, str) for value in typed(values, list))
