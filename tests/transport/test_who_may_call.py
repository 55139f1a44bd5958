"""Every method of every service of all daemons, called with every certificate there is: served where it must be only.

Key holders talk to key holders, matchers to matchers, devices to matchers, a matcher to the key holder of its own
organisation; nothing else crosses. Real daemons, over real gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from tests.e2e.world import EVERYBODY, PASSPHRASE, World, running
from tests.transport.parties import tls_of
from veilmatch.common.public_file import read_public_file
from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.errors import PartyRefusedError, RequestSignatureError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, pairs_of
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import keyholder_pb2, matcher_pb2, revocation_pb2
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.installation.certifying.revocation_lists import held_lists, sign_revocation
from veilmatch.server.installation.files import write_file
from veilmatch.server.installation.folders import Issuer
from veilmatch.server.installation.plan import folder_of
from veilmatch.server.revoking.lists import revoked_by_two
from veilmatch.server.supervisor import load_daemon
from veilmatch.server.transport.channels import channel_to
from veilmatch.server.transport.status import from_rpc

DEVICES = ("device-1",)
#: Has a certificate of the authority, and is nobody.
NOBODY = "mallory"
CALLERS = (*EVERYBODY, *DEVICES, NOBODY)
SERVICES: dict[str, ServiceDescriptor] = {
    **matcher_pb2.DESCRIPTOR.services_by_name, **keyholder_pb2.DESCRIPTOR.services_by_name,
    **revocation_pb2.DESCRIPTOR.services_by_name,
}  # fmt: skip


def may_call(service: str, method: str, server: str, caller: str) -> bool:
    """Whether `caller` is served by this method at `server`: what the design says, written down once more."""
    kind, party = server.split("-")
    calls, _, of = caller.partition("-")
    if service == "Matcher":
        return kind == "matcher" and caller in DEVICES
    if service == "MatcherPeer":
        # The first of a pair calls the second about a request.
        leads = of < party if method in ("Exchange", "Meet") else of != party
        return kind == calls == "matcher" and leads
    if service == "Revocations":
        # Whoever calls a server anyway.
        return (calls == kind and of != party) or (calls, of, kind) == ("matcher", party, "keyholder")
    if service == "KeyHolder":
        return kind == "keyholder" and calls == "matcher" and of == party
    if kind != "keyholder" or calls != "keyholder":
        return False
    if service == "KeyHolderPeer":
        # Only the plus holder of a pair begins the check of a block.
        return of < party if method == "CheckDealt" else of != party
    assert service == "KeyHolderRefresh"
    if method == "State":
        return True
    # The operator's command shows its own key holder's certificate.
    return of == party if method in ("Refresh", "Recover") else of != party


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("callers") / "installation", ParameterSet(modulus_bits=1024)) as world:
        yield world


def certificates(world: World, folder: Path) -> dict[str, TlsSettings]:
    """The TLS files of everybody who has a certificate of this installation."""
    found = {name: load_daemon(world.parties.config(name)).tls for name in EVERYBODY}
    found |= {name: world.settings().tls for name in DEVICES}
    place = world.directory / "authority"
    certificate, key = Issuer.open(world.directory, PASSPHRASE).authority.issue(NOBODY)
    (folder / "tls.pem").write_bytes(certificate)
    write_file(folder / "tls-key.pem", key, secret=True)
    return found | {
        NOBODY: TlsSettings(
            authority=place / "ca.pem", certificate=folder / "tls.pem", key=folder / "tls-key.pem"
        )
    }  # fmt: skip


async def outcome(channel: grpc.aio.Channel, service: ServiceDescriptor, method: MethodDescriptor) -> Any:
    """Call with an empty message, or an empty stream; return the error, or None where there is an answer."""
    kinds = {False: "unary", True: "stream"}
    make = getattr(channel, f"{kinds[method.client_streaming]}_{kinds[method.server_streaming]}")
    call = make(f"/{service.full_name}/{method.name}")
    given = call(b"", timeout=20.0) if not method.client_streaming else call(timeout=20.0)
    try:
        if method.client_streaming:
            await given.done_writing()
        if method.server_streaming:
            # One that is let in may stream for ever.
            await asyncio.wait_for(given.read(), 3.0)
        else:
            await given
    except TimeoutError:
        given.cancel()
    except grpc.aio.AioRpcError as error:
        return error
    return None


def is_refused(error: grpc.aio.AioRpcError | None, server: str, caller: str) -> bool:
    """Whether the caller, and not what it says, is what was not let in."""
    if error is None:
        return False
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return True
    found: VeilmatchError = from_rpc(error, server)
    # A matcher knows nobody but the devices that have certificates.
    return isinstance(found, PartyRefusedError | RequestSignatureError) and found.got == caller


@pytest.mark.parametrize("server", EVERYBODY)
async def test_every_method_serves_whom_it_must_and_nobody_else(world: World, server: str, tmp_path: Path) -> None:
    address = load_daemon(world.parties.config(server)).listen
    wrong, tried = [], 0
    for caller, tls in certificates(world, tmp_path).items():
        async with channel_to(address, server, tls) as channel:
            for name, service in SERVICES.items():
                for method in service.methods:
                    error, tried = await outcome(channel, service, method), tried + 1
                    if is_refused(error, server, caller) is may_call(name, method.name, server, caller):
                        wrong.append((name, method.name, caller, error and error.code(), error and error.details()))
    assert not wrong
    assert tried == len(CALLERS) * sum(len(service.methods) for service in SERVICES.values())


async def test_a_certificate_of_another_authority_is_not_heard_anywhere(world: World, tmp_path: Path) -> None:
    for server in EVERYBODY:
        for name in CALLERS:
            stranger = tls_of(tmp_path, name)
            own = load_daemon(world.parties.config(server)).tls.authority
            address = load_daemon(world.parties.config(server)).listen
            async with channel_to(address, server, stranger.model_copy(update={"authority": own})) as channel:
                call = channel.unary_unary("/grpc.health.v1.Health/Check")
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(b"", timeout=5.0)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE, (server, name)


async def test_what_two_key_holders_have_signed_is_on_the_disk_of_every_server(world: World) -> None:
    """The operator's command at two organisations; nothing is carried."""
    settings = {name: load_daemon(world.parties.config(name)) for name in EVERYBODY}
    for name in ("keyholder-a", "keyholder-c"):
        holder = settings[name]
        assert isinstance(holder, KeyHolderSettings)
        await asyncio.to_thread(sign_revocation, [b"r" * 32], holder, PASSPHRASE)
    async with asyncio.timeout(120):
        for one in settings.values():
            public = read_public_file(one.public_key)
            while b"r" * 32 not in revoked_by_two(held_lists(one.revoked_dir, public)):
                await asyncio.sleep(0.1)


def test_the_rule_lets_every_pair_meet_and_no_more() -> None:
    """The table above against the pairs: in each, matchers and key holders meet, the second called by the first."""
    for party in PARTIES:
        for pair in pairs_of(party):
            for method in ("Exchange", "Meet"):
                assert may_call("MatcherPeer", method, f"matcher-{pair[1]}", f"matcher-{pair[0]}")
                assert not may_call("MatcherPeer", method, f"matcher-{pair[0]}", f"matcher-{pair[1]}")
    for method in ("Serve", "ServeMany"):
        callers = {(s, c) for s in EVERYBODY for c in CALLERS if may_call("KeyHolder", method, s, c)}
        assert callers == {(f"keyholder-{party}", f"matcher-{party}") for party in PARTIES}
    assert not any(
        may_call(name, method.name, server, NOBODY)
        for name, service in SERVICES.items() for method in service.methods for server in EVERYBODY
    )  # fmt: skip


def test_folders_have_the_certificates_of_their_daemons(world: World) -> None:
    for name in EVERYBODY:
        assert load_daemon(world.parties.config(name)).tls.certificate == world.directory / folder_of(name) / "tls.pem"
