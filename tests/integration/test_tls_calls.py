"""Whole calls by TLS through the whole system: phones, trunks, SIPS, and what is said when a trunk proves nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from b2bua import upkeep
from b2bua.app import System, running
from b2bua.cdr import ClientId, Disposition
from b2bua.config import Listener, LogSettings, MediaSettings, ServerSettings, Settings, SipSettings, WebSettings
from b2bua.control import TrunkFault
from b2bua.directory import Client, Directory, Extension, Number, Trunk
from b2bua.net.certificates import ServerIdentity
from b2bua.net.tls import TlsTransport
from b2bua.net.udp import UdpTransport
from b2bua.sip.auth import ha1
from b2bua.sip.effects import Address, TlsPeer
from tests.support.certificates import Authority, dns, ip
from tests.support.phone import Answers, Phone

pytestmark = pytest.mark.both_loops

BLOCK = os.getpid() % 250 + 2              # a corner of 127.0.0.0/8 that no other run on this machine uses
HERE, TRUNK, DESK, ROOM = (f"127.{BLOCK}.{place}.1" for place in (21, 22, 23, 24))
ACME = ClientId("acme")
DID, IVAN = "+74951112233", "+79161234567"
PASSWORD = "secret-of-a-phone"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def settings(home: Path, authority: Authority, client_ca: Path | None = None) -> Settings:
    ours = authority.issue("pbx", *dns("pbx.test"))
    tls = Listener(transport="tls", host=HERE, port=0, certificate=ours.certificate, key=ours.key, client_ca=client_ca)
    return Settings(
        server=ServerSettings(data_dir=home / "var", drain_seconds=1),
        sip=SipSettings(listen=(Listener(host=HERE, port=0), tls)),
        media=MediaSettings(host=HERE, port_min=22000, port_max=22999),
        web=WebSettings(host=HERE, port=0),
        log=LogSettings(level="error"),
    )


def office(trunk: Trunk) -> Directory:
    hashes = {number: {name: ha1(name, number, "smartswitch", PASSWORD) for name in ("MD5", "SHA-256")}
              for number in ("101", "102")}     # fmt: skip
    return Directory(
        clients=(Client(ACME, "Acme"),),
        extensions=tuple(Extension(ACME, number, number, hashes[number]) for number in hashes),
        trunks=(trunk,),
        numbers=(Number(ACME, DID, "101", ring_seconds=5),),
    )


@asynccontextmanager
async def phone_by_tls(
    number: str, host: str, server: Address, authority: Authority, *, sips: bool = False, named: str = ""
) -> AsyncIterator[Phone]:
    """`number` is an extension's, or a trunk's name."""
    peer = TlsPeer(("pbx.test",), str(authority.file))
    phone = Phone(number, server, password=PASSWORD, does=Answers(0.05), peer=peer, sips=sips, seed=len(host + number))
    async with asyncio.TaskGroup() as tasks:
        transport = TlsTransport(phone, tasks)
        names = dns(named) if named else [*dns(f"{number}.test"), *ip(host)]
        await transport.listen(Address(host, 0), ServerIdentity(authority.issue(number, *names)))
        phone.plug(lambda _: transport)
        try:
            yield phone
        finally:
            phone.close()


@asynccontextmanager
async def phone_by_udp(number: str, host: str, server: Address) -> AsyncIterator[Phone]:
    phone = Phone(number, server, password=PASSWORD, does=Answers(0.05))
    phone.plug(partial(UdpTransport.open, Address(host, 0)))
    try:
        yield phone
    finally:
        phone.close()


async def hand_in(system: System, directory: Directory) -> None:
    old, generation = await system.store.directory.load()
    await system.store.directory.replace(old, directory, generation)
    await system.switchboard.settings_changed()


async def the_books_have(system: System, calls: int) -> None:
    async with asyncio.timeout(10):
        while len(await system.store.calls.last_calls()) < calls:  # noqa: ASYNC110 - as a person looks
            await asyncio.sleep(0.02)
    for record in await system.store.calls.last_calls():
        assert record.disposition is Disposition.ANSWERED


@pytest.mark.parametrize("sips", [False, True], ids=["sip", "sips"])
async def test_a_phone_by_tls_calls_out_through_a_trunk_by_udp_and_is_called(
    tmp_path: Path, authority: Authority, sips: bool
) -> None:
    async with (
        running(settings(tmp_path, authority)) as system,
        phone_by_udp("operator", TRUNK, system.sip[0]) as trunk,
        phone_by_tls("101", DESK, system.sip[1], authority, sips=sips) as desk,
    ):
        await hand_in(system, office(Trunk(ACME, "operator", TRUNK, trunk.transport.local.port)))
        assert (await desk.register()).status == 200
        (registered,) = system.switchboard.registered_phones()
        assert registered.contact.startswith("sips:" if sips else "sip:")
        out = desk.call("+79990001122")
        await out.answered.wait()
        dialled = trunk.calls[0].session.invite
        assert (dialled.uri.scheme, dialled.via.transport) == ("sip", "UDP")
        assert out.session.dialog is not None
        target = out.session.dialog.target
        assert (target.scheme, target.transport) == (("sips", None) if sips else ("sip", "TLS"))
        out.hang_up()
        await trunk.calls[0].over.wait()
        call = trunk.call(DID, as_=IVAN)
        await call.answered.wait()
        ringing = desk.calls[1].session.invite
        assert (ringing.uri.scheme, ringing.via.transport) == ("sips" if sips else "sip", "TLS")
        contact = ringing.contact
        assert contact is not None
        assert contact.uri.scheme == ringing.uri.scheme
        call.hang_up()
        await the_books_have(system, 2)


async def test_a_phone_by_tls_is_out_of_reach_when_its_connection_is_gone(
    tmp_path: Path, authority: Authority
) -> None:
    async with running(settings(tmp_path, authority)) as system:
        await hand_in(system, office(Trunk(ACME, "operator", TRUNK, 5060)))
        async with phone_by_tls("101", DESK, system.sip[1], authority) as desk:
            assert (await desk.register()).status == 200
            assert len(system.switchboard.registered_phones()) == 1
        async with asyncio.timeout(5):
            while system.switchboard.registered_phones():  # noqa: ASYNC110 - as the page looks
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("sips", [False, True], ids=["sip", "sips"])
async def test_sips_in_the_clear_is_refused(tmp_path: Path, authority: Authority, sips: bool) -> None:
    async with (
        running(settings(tmp_path, authority)) as system,
        phone_by_udp("101", DESK, system.sip[0]) as desk,
    ):
        await hand_in(system, office(Trunk(ACME, "operator", TRUNK, 5060)))
        desk.sips = sips
        response = await desk.register()
        assert (response.status, response.reason) == ((403, "SIPS Needs TLS") if sips else (200, "OK"))


@pytest.mark.parametrize("named_by", ["dns", "address"])
async def test_calls_go_out_and_come_in_by_a_trunk_with_mutual_tls(
    tmp_path: Path, authority: Authority, named_by: str
) -> None:
    mine = authority.issue("mine", *dns("pbx.test"))
    trunk = Trunk(
        ACME, "operator", TRUNK, transport="TLS", ca_file=str(authority.file),
        domain="operator.test" if named_by == "dns" else "",
        certificate=str(mine.certificate), certificate_key=str(mine.key),
    )   # fmt: skip
    async with (
        running(settings(tmp_path, authority)) as system,
        phone_by_udp("102", ROOM, system.sip[0]) as room,
        phone_by_udp("101", DESK, system.sip[0]) as desk,
        phone_by_tls("operator", TRUNK, system.sip[1], authority) as operator,
    ):
        await hand_in(system, office(replace(trunk, port=operator.transport.local.port)))
        await room.register()
        await desk.register()
        async with asyncio.timeout(5):
            while not all(state.up for state in system.switchboard.trunk_states()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        out = room.call("+79990001122")
        await out.answered.wait()
        assert operator.calls[0].session.invite.via.transport == "TLS"
        out.hang_up()
        await operator.calls[0].over.wait()
        call = operator.call(DID, as_=IVAN)
        await call.answered.wait()
        assert desk.calls[0].caller == IVAN
        call.hang_up()
        await the_books_have(system, 2)


@pytest.mark.parametrize("address", ["sips:101@{host}:{port}", "sip:101@{host}:{port};transport=tls"])
async def test_a_phone_at_a_fixed_address_by_tls_is_called_when_it_proves_its_name(
    tmp_path: Path, authority: Authority, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))        # the system's authorities
    async with (
        running(settings(tmp_path, authority)) as system,
        phone_by_udp("102", ROOM, system.sip[0]) as room,
        phone_by_tls("101", DESK, system.sip[1], authority) as desk,
        phone_by_tls("impostor", TRUNK, system.sip[1], authority, named="impostor.test") as impostor,
    ):
        for there, status in ((desk, 200), (impostor, 500)):    # a 503 of one branch, RFC 3261 §16.7
            directory = office(Trunk(ACME, "operator", TRUNK, 5060))
            host, port = there.transport.local
            fixed = replace(directory.extensions[0], address=address.format(host=host, port=port))
            await hand_in(system, replace(directory, extensions=(fixed, directory.extensions[1])))
            await room.register()
            call = room.call("101")
            await (call.answered if status == 200 else call.over).wait()
            assert call.status == status
            call.hang_up()
        assert impostor.calls == []
        assert desk.calls[0].session.invite.via.transport == "TLS"


@pytest.mark.parametrize(("vouched", "why"), [(True, "its certificate names"), (False, "its certificate is refused")])
async def test_a_trunk_that_is_not_who_it_should_be_is_down_and_the_page_says_why(
    tmp_path: Path, authority: Authority, vouched: bool, why: str
) -> None:
    ca_file = authority.file if vouched else Authority(tmp_path, "Third CA").file
    async with (
        running(settings(tmp_path, authority)) as system,
        phone_by_tls("other", TRUNK, system.sip[1], authority, named="other.test") as other,
    ):
        port = other.transport.local.port
        trunk = Trunk(ACME, "operator", TRUNK, port, transport="TLS", domain="bank.test", ca_file=str(ca_file))
        await hand_in(system, office(trunk))
        async with asyncio.timeout(5):
            while why not in system.switchboard.trunk_states()[0].detail:  # noqa: ASYNC110 - as the page looks
                await asyncio.sleep(0.01)
        assert not system.switchboard.trunk_states()[0].up
        test = await system.switchboard.test_trunk(ACME, "operator")
        assert (test.works, test.faults) == (False, [TrunkFault.BAD_TLS])
        assert why in test.tls_trouble


async def test_a_renewed_certificate_is_taken_without_a_restart(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "CERTIFICATES_LOOKED_AT_EVERY", 0.02)
    async with running(settings(tmp_path, authority)) as system:

        async def serial() -> str:
            _, writer = await asyncio.open_connection(
                *system.sip[1], ssl=authority.client(), server_hostname="pbx.test"
            )
            try:
                return str(writer.get_extra_info("peercert")["serialNumber"])
            finally:
                writer.transport.abort()

        before = await serial()
        authority.issue("pbx", *dns("pbx.test"))
        async with asyncio.timeout(5):
            while await serial() == before:  # noqa: ASYNC110 - as a phone sees it
                await asyncio.sleep(0.02)


async def test_a_phone_without_the_certificate_that_is_demanded_does_not_get_in(
    tmp_path: Path, authority: Authority
) -> None:
    async with (
        running(settings(tmp_path, authority, client_ca=authority.file)) as system,
        phone_by_tls("101", DESK, system.sip[1], authority) as desk,
    ):
        await hand_in(system, office(Trunk(ACME, "operator", TRUNK, 5060)))
        assert (await desk.register()).status == 503
        mine = authority.issue("mine")
        assert desk.peer is not None
        desk.peer = desk.peer._replace(certificate=str(mine.certificate), key=str(mine.key))
        assert (await desk.register()).status == 200
