"""Outgoing calls over several trunks and several servers of one; who calls, as trunks say it and want it said."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from b2bua.calls.way_out import SIGN_OF_LIFE
from b2bua.cdr import Disposition, EndedBy, EndReason
from b2bua.directory import Trunk
from b2bua.net.resolver import Srv
from b2bua.sip.effects import Address
from b2bua.sip.message import Request, Response
from b2bua.trunk_profiles import PROFILES, FromShows, Identity
from tests.support.office import ACME, DID, OPERATOR, SERVER, Office, open_office
from tests.support.phone import Answers, Behaviour, Dead, Phone, Rejects, Rings

OUTSIDE = "+79265554433"
SPARE = Address("10.0.1.2", 5060)
THIRD = Address("10.0.1.3", 5060)


@pytest.fixture
def office():
    return open_office()


def operator_at(office: Office, local: Address, does: Behaviour = Answers(after=1.0)) -> Phone:
    seed = int(local.host.rpartition(".")[2])
    phone = Phone(f"operator-{local.host}", SERVER, does=does, seed=seed).on(office.network, local)
    office._phones[local.host] = phone
    return phone


async def with_trunks(office: Office, *trunks: Trunk) -> None:
    """This directory, and every trunk has had the time for its pings."""
    office.change(trunks=trunks)
    await office.pbx.settings_changed()
    await asyncio.sleep(1)


def operator(office: Office) -> Trunk:
    return office.books.directory.trunks[0]


def spare(**changes: object) -> Trunk:
    return replace(Trunk(ACME, "spare", SPARE.host, SPARE.port, priority=1), **changes)  # type: ignore[arg-type]


async def call_out(office: Office, number: str = OUTSIDE, headers: Sequence[tuple[str, str]] = ()) -> float:
    """Anna calls; how long it took until she was answered, or refused."""
    anna = office._phones.get("101") or await office.phone("101")
    began = asyncio.get_running_loop().time()
    call = anna.call(number, headers=headers)
    answered = asyncio.get_running_loop().create_task(call.answered.wait())
    over = asyncio.get_running_loop().create_task(call.over.wait())
    await asyncio.wait([answered, over], return_when=asyncio.FIRST_COMPLETED)
    took = asyncio.get_running_loop().time() - began
    answered.cancel()
    over.cancel()
    call.hang_up()
    return took


# -- failover


async def test_a_silently_dead_trunk_costs_the_caller_seconds_once(office: Office) -> None:
    other = operator_at(office, SPARE)
    await with_trunks(office, operator(office), spare())
    office.trunk.does = Dead()
    took = await call_out(office)
    record = await office.record()
    assert SIGN_OF_LIFE < took < SIGN_OF_LIFE + 1.5
    assert (record.trunk, record.disposition) == ("spare", Disposition.ANSWERED)
    assert "trunks in their order: operator, spare" in record.why
    assert "operator: no response within 5 s" in record.why
    assert await call_out(office) < 2                   # operator is doubted, though its pings have not failed yet
    record = await office.record(2)
    assert "trunks in their order: spare, operator (down)" in record.why
    assert len(other.calls) == 2
    await office.all_quiet()


async def test_a_trunk_that_answers_too_late_is_told_that_it_is_not_wanted(office: Office) -> None:
    operator_at(office, SPARE)
    await with_trunks(office, operator(office), spare())
    office.network.lose(lambda data, flow: flow.remote == OPERATOR and data.startswith(b"INVITE"), times=4)
    await call_out(office)
    assert (await office.record()).trunk == "spare"
    await asyncio.sleep(10)
    (late,) = office.trunk.calls
    assert late.over.is_set()
    assert not late.answered.is_set()
    await office.all_quiet()


async def test_a_trunk_that_only_tries_is_given_its_time(office: Office) -> None:
    operator_at(office, SPARE)
    await with_trunks(office, operator(office), spare())
    office.trunk.does = Answers(after=20.0, rings=False)
    assert await call_out(office) == pytest.approx(20, abs=0.1)
    assert (await office.record()).trunk == "operator"


async def test_the_last_way_out_gets_all_the_time_of_timer_b(office: Office) -> None:
    operator_at(office, SPARE, Dead())
    await with_trunks(office, operator(office), spare())
    office.trunk.does = Dead()
    assert await call_out(office) == pytest.approx(SIGN_OF_LIFE + 32, abs=0.5)
    record = await office.record()
    assert (record.status, record.reason, record.disposition) == (
        408, EndReason.NO_RESPONSE, Disposition.UNREACHABLE)


@pytest.mark.parametrize("status", [401, 408, 500, 502, 503, 504, 580])
async def test_a_trunk_that_fails_is_followed_by_the_next(office: Office, status: int) -> None:
    operator_at(office, SPARE)
    await with_trunks(office, operator(office), spare())
    office.trunk.does = Rejects(status)
    assert await call_out(office) < 2
    record = await office.record()
    assert (record.trunk, record.disposition) == ("spare", Disposition.ANSWERED)
    assert f"operator answered {status}" in record.why


@pytest.mark.parametrize("status", [403, 404, 480, 484, 486, 488, 600, 603, 604])
async def test_what_is_said_of_the_callee_is_the_last_word(office: Office, status: int) -> None:
    other = operator_at(office, SPARE)
    await with_trunks(office, operator(office), spare())
    office.trunk.does = Rejects(status)
    await call_out(office)
    record = await office.record()
    assert (record.trunk, record.status) == ("operator", status)
    assert other.calls == []


async def test_a_phone_that_rang_is_not_rung_again_through_another_trunk(office: Office) -> None:
    other = operator_at(office, SPARE)
    await with_trunks(office, operator(office), spare())
    office.trunk.does = Rings()
    anna = await office.phone("101")
    call = anna.call(OUTSIDE)
    await call.rang.wait()
    office.trunk.calls[0].reject(500)
    await call.over.wait()
    assert call.status == 500
    assert other.calls == []


async def test_a_refused_datagram_sends_the_call_on_at_once(office: Office) -> None:
    operator_at(office, SPARE)
    await with_trunks(office, operator(office), spare())
    office.trunk.close()
    assert await call_out(office) < 2
    record = await office.record()
    assert record.trunk == "spare"
    assert "operator: transport failed" in record.why


async def test_a_trunk_without_an_address_is_passed_over(office: Office) -> None:
    office.trunk.does = Dead()
    await with_trunks(office, Trunk(ACME, "nowhere", "nowhere.test"), replace(operator(office), priority=1))
    await asyncio.sleep(40)
    office.trunk.does = Answers()                       # both count as down
    await call_out(office)
    record = await office.record()
    assert "trunks in their order: nowhere (down), operator (down)" in record.why
    assert "nowhere is not reachable now: no address for nowhere.test" in record.why
    assert (record.trunk, record.disposition) == ("operator", Disposition.ANSWERED)


async def test_without_any_address_nobody_can_be_reached(office: Office) -> None:
    await with_trunks(office, Trunk(ACME, "nowhere", "nowhere.test"))
    await call_out(office)
    record = await office.record()
    assert (record.status, record.reason) == (480, EndReason.NOTHING_TO_RING)


# -- several servers of one trunk


async def test_the_servers_of_one_trunk_are_tried_in_turn(office: Office) -> None:
    first, second = operator_at(office, SPARE), operator_at(office, THIRD)
    office.dns.records["trunk.test", "A"] = (SPARE.host, THIRD.host)
    await with_trunks(office, Trunk(ACME, "named", "trunk.test"), replace(operator(office), priority=1))
    first.does = Dead()
    assert await call_out(office) == pytest.approx(SIGN_OF_LIFE + 1, abs=0.3)
    record = await office.record()
    assert "named: no response within 5 s" in record.why
    assert f"named has another server than {SPARE.host}" in record.why
    assert len(second.calls) == 1
    assert second.calls[0].session.invite.uri.host == "trunk.test"
    assert await call_out(office) < 2                   # remembered, and the trunk itself is not doubted
    assert (await office.record(2)).trunk == "named"
    await office.all_quiet()


async def test_503_speaks_for_one_server_and_500_for_the_trunk(office: Office) -> None:
    first, second = operator_at(office, SPARE, Rejects(503)), operator_at(office, THIRD)
    office.dns.records["trunk.test", "A"] = (SPARE.host, THIRD.host)
    await with_trunks(office, Trunk(ACME, "named", "trunk.test"), replace(operator(office), priority=1))
    await call_out(office)
    assert (await office.record()).trunk == "named"
    first.does = second.does = Rejects(500)
    await asyncio.sleep(60)                             # no longer doubted
    await call_out(office)
    assert (await office.record(2)).trunk == "operator"
    assert (len(first.calls), len(second.calls)) == (1, 2)


async def test_servers_by_srv_are_tried_by_their_priority(office: Office) -> None:
    first, second = operator_at(office, SPARE), operator_at(office, Address(THIRD.host, 5070))
    office.dns.records |= {
        ("_sip._udp.trunk.test", "SRV"): (Srv(20, 1, 5060, "b.trunk.test"), Srv(10, 1, 5070, "a.trunk.test")),
        ("a.trunk.test", "A"): (THIRD.host,), ("b.trunk.test", "A"): (SPARE.host,),
    }
    await with_trunks(office, Trunk(ACME, "named", "trunk.test"))
    await call_out(office)
    assert (len(first.calls), len(second.calls)) == (0, 1)
    second.does = Rejects(503)
    await call_out(office)
    assert (len(first.calls), len(second.calls)) == (1, 2)


async def test_a_trunk_that_asks_is_told_that_we_live(office: Office) -> None:
    says = (("User-Agent", "as talkative as operators' equipment is " * 10),)     # what it may be told is no longer
    response, _ = await office.trunk._ask("OPTIONS", says, "ping")
    assert (response.status, "INVITE" in response.headers.get_all("Allow")) == (200, True)
    assert office.agent.core.session_count == 0


# -- limits and choice


async def test_a_full_trunk_is_passed_over_and_the_last_one_refuses(office: Office) -> None:
    operator_at(office, SPARE)
    await with_trunks(office, replace(operator(office), max_calls=1), spare(max_calls=1))
    anna = await office.phone("101")
    calls = []
    for _ in range(3):
        calls.append(anna.call(OUTSIDE))
        await asyncio.sleep(10)
    assert [call.status for call in calls] == [200, 200, 503]
    refused = await office.record()
    assert (refused.reason, refused.disposition, refused.ended_by) == (
        EndReason.LIMIT_REACHED, Disposition.REFUSED, EndedBy.SWITCH)
    assert "operator carries 1 calls already (max_calls)" in refused.why
    calls[0].hang_up()
    await office.record(2)
    again = anna.call(OUTSIDE)
    await again.answered.wait()                         # the place is free again
    inbound = office.trunk.call(DID, as_="+79161234567")
    await inbound.over.wait()
    assert inbound.status == 503                        # ... and taken: calls count both ways
    for call in (calls[1], again):
        call.hang_up()
    await office.record(5)
    await office.all_quiet()
    assert not office.pbx.capacity._taken


async def test_prefixes_choose_the_trunk(office: Office) -> None:
    abroad = operator_at(office, SPARE)
    await with_trunks(office, operator(office), spare(priority=0, prefixes=("+44", "+49")),
                      replace(operator(office), name="third", prefixes=("+7495",)))
    await call_out(office, "810442079460000")
    assert abroad.calls[0].session.invite.uri.user == "+442079460000"
    record = await office.record()
    assert "third takes only +7495" in record.why


# -- who calls, as it is shown


@pytest.mark.parametrize(("profile", "dialled", "from_user", "header", "value"), [
    ("generic", "+79265554433", "+74950001122", None, ""),
    ("plain", "79265554433", "74950001122", None, ""),
    ("registering-8", "89265554433", "account", None, ""),
    ("e164-plus-pai", "+79265554433", "+74950001122", "P-Asserted-Identity", "<sip:+74950001122@10.0.1.1>"),
    ("e164-pai", "79265554433", "74950001122", "P-Asserted-Identity", "<sip:74950001122@10.0.1.1>"),
    ("account-ppi", "+79265554433", "account", "P-Preferred-Identity", "<sip:+74950001122@10.0.1.1>"),
    ("rpid", "79265554433", "74950001122", "Remote-Party-ID",
     "<sip:74950001122@10.0.1.1>;party=calling;screen=yes;privacy=off"),
    ("zeros", "0079265554433", "74950001122", None, ""),
    ("gateway", "89265554433", "+74950001122", None, ""),
])
async def test_each_profile_writes_numbers_and_caller_as_its_operators_want(
    office: Office, profile: str, dialled: str, from_user: str, header: str | None, value: str
) -> None:
    await with_trunks(office, replace(operator(office), profile=profile, user="account", caller_id="+74950001122"))
    await call_out(office, "89265554433")
    invite = office.trunk.calls[0].session.invite
    assert (invite.uri.user, invite.to.uri.user, invite.from_.uri.user) == (dialled, dialled, from_user)
    written = {name: text for name, text in invite.headers if name in _IDENTITY_HEADERS}
    assert written == ({header: value} if header else {})


def test_every_profile_is_tried_above() -> None:
    (mark,) = test_each_profile_writes_numbers_and_caller_as_its_operators_want.pytestmark
    assert {case[0] for case in mark.args[1]} == set(PROFILES)


@pytest.mark.parametrize("identity", Identity)
@pytest.mark.parametrize("from_shows", FromShows)
@pytest.mark.parametrize("how", ["extension", "privacy", "from"])
async def test_a_withheld_number_is_for_the_operator_alone(
    office: Office, identity: Identity, from_shows: FromShows, how: str
) -> None:
    trunk = replace(operator(office), identity=identity, from_shows=from_shows, user="account")
    await with_trunks(office, trunk)
    extensions = office.books.directory.extensions
    if how == "extension":
        office.change(extensions=tuple(replace(one, hide_caller_id=True) for one in extensions))
    await office.pbx.settings_changed()
    anna = await office.phone("101")
    headers = [("Privacy", "id")] if how == "privacy" else []
    call = anna.call(OUTSIDE, as_="anonymous" if how == "from" else "", headers=headers)
    await call.answered.wait()
    call.hang_up()
    invite = office.trunk.calls[0].session.invite
    assert str(invite.from_.without_params()) == '"Anonymous" <sip:anonymous@anonymous.invalid>'
    assert invite.headers.get("Privacy") == "id"
    shown = {name: text for name, text in invite.headers if name in _IDENTITY_HEADERS and name != "Privacy"}
    assert [DID in text for text in shown.values()] == ([True] if identity is not Identity.NONE else [])
    if identity is Identity.REMOTE_PARTY:
        assert "privacy=full" in shown["Remote-Party-ID"]
    assert DID not in str(invite.contact)
    assert any("number withheld" in reason for reason in (await office.record()).why)


@pytest.mark.parametrize(("own", "trunk", "client", "user", "shown"), [
    ("+74950000001", "+74950000002", "+74950000003", "account", "+74950000001"),
    ("", "+74950000002", "+74950000003", "account", "+74950000002"),
    ("", "", "+74950000003", "account", "+74950000003"),
    ("", "", "", "account", "account"),
    ("", "", "", "", "101"),
])
async def test_whose_caller_id_is_shown(
    office: Office, own: str, trunk: str, client: str, user: str, shown: str
) -> None:
    books = office.books.directory
    office.change(
        clients=(replace(books.clients[0], caller_id=client),),
        extensions=tuple(replace(one, caller_id=own) for one in books.extensions),
    )
    await with_trunks(office, replace(operator(office), caller_id=trunk, user=user))
    await call_out(office)
    assert office.trunk.calls[0].caller == shown
    assert f"shows {shown}" in (await office.record()).why


@pytest.mark.parametrize("number", ["112", "101", "0100", "123456"])
async def test_short_numbers_go_out_as_they_are(office: Office, number: str) -> None:
    office.change(extensions=tuple(one for one in office.books.directory.extensions if one.number != "103"))
    if number == "101":
        office.change(extensions=tuple(replace(one, number="201") if one.number == "101" else one
                                       for one in office.books.directory.extensions), numbers=(), groups=())
    await with_trunks(office, replace(operator(office), profile="registering-8", user="account"))
    caller = Phone("101", SERVER, password="secret-of-a-phone", seed=3).on(office.network, Address("10.0.2.9", 5060))
    call = caller.call(number)
    await call.answered.wait()
    call.hang_up()
    assert office.trunk.calls[0].session.invite.uri.user == number
    caller.close()


# -- who calls, as it is read


@pytest.mark.parametrize(("profile", "shown", "headers", "caller"), [
    ("generic", "anonymous", [("Remote-Party-ID", "<sip:89161234567@op>;party=calling;privacy=off")], "+79161234567"),
    ("generic", "100", [("P-Preferred-Identity", "<tel:+79161234567>")], "+79161234567"),
    ("generic", "100", [("Remote-Party-ID", "<sip:79160000000@op>"), ("P-Asserted-Identity", "<tel:+79161234567>")],
     "+79161234567"),
    ("rpid", "100", [("Remote-Party-ID", "<sip:79161234567@op>"), ("P-Asserted-Identity", "<tel:+79160000000>")],
     "+79161234567"),
    ("gateway", "89161234567", [("P-Asserted-Identity", "<tel:+79160000000>")], "+79161234567"),
    ("generic", "+79161234567;cpc=ordinary", [], "+79161234567"),
    ("generic", "0079161234567", [("P-Asserted-Identity", "<<nonsense"), ("Remote-Party-ID", "")], "+79161234567"),
    ("generic", "anonymous", [], ""),
    ("generic", "+79161234567", [("Privacy", "id")], ""),
    ("generic", "anonymous", [("P-Asserted-Identity", "<tel:+79161234567>"), ("Privacy", "user;id")], ""),
    ("generic", "anonymous", [("Remote-Party-ID", "<sip:79161234567@op>;privacy=full")], ""),
    ("generic", "+79161234567", [("Privacy", "none")], "+79161234567"),
])
async def test_the_callers_number_is_read_where_the_profile_trusts(
    office: Office, profile: str, shown: str, headers: list[tuple[str, str]], caller: str
) -> None:
    await with_trunks(office, replace(operator(office), profile=profile))
    boris = await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_=shown, headers=headers)
    await call.answered.wait()                          # an anonymous call is a call like others
    call.hang_up()
    record = await office.record()
    assert (record.caller, record.disposition) == (caller, Disposition.ANSWERED)
    assert boris.calls[0].caller == (caller or "anonymous")


@pytest.mark.parametrize(("header", "told"), [
    (("Diversion", '<sip:+74951110000@op>;reason=unconditional, "Sales" <tel:84951119999>;reason="user-busy"'),
     ["diverted by +74951110000 (unconditional)", "diverted by 84951119999 (user-busy)"]),
    (("Diversion", "<<nonsense"), []),
    (("Diversion", ", ".join(f"<sip:{n}@op>" for n in range(4))), ["diverted by 0", "diverted by 1", "diverted by 2"]),
    (("History-Info", f"<sip:+74951110000@op;cause=302>;index=1, <sip:{DID}@op>;index=1.1;mp=1"),
     ["sent on from +74951110000"]),
])
async def test_by_whom_a_call_was_forwarded_to_us_is_in_its_record(
    office: Office, header: tuple[str, str], told: list[str]
) -> None:
    await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_="+79161234567", headers=[header])
    await call.answered.wait()
    call.hang_up()
    why = (await office.record()).why
    assert [reason for reason in why if reason.startswith(("diverted", "sent on"))] == told


# -- the way that a registrar wants


class Registrar(Phone):
    """A trunk that lets everybody in, and names the way for their calls."""

    route = f"<sip:{SPARE.host};lr>"

    def _yes(self, request: Request) -> Response:
        response = super()._yes(request)
        if request.method == "REGISTER":
            response.headers.add("Service-Route", self.route)
        return response


async def test_calls_go_by_the_registrars_service_route(office: Office) -> None:
    edge = operator_at(office, SPARE)
    office.trunk.close()
    registrar = Registrar("operator", SERVER, seed=8).on(office.network, OPERATOR)
    await with_trunks(office, replace(operator(office), register=True, user="account", password="pw"))
    await call_out(office)
    invite = edge.calls[0].session.invite
    assert invite.headers.get_all("Route") == [Registrar.route]
    assert invite.uri.host == OPERATOR.host
    assert registrar.calls == []
    registrar.close()


_IDENTITY_HEADERS = ("P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID", "Privacy")
