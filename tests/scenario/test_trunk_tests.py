"""A trunk tested by a button: what is found, how long it takes, and that nothing else notices."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from b2bua.cdr import ClientId, Disposition
from b2bua.control import BeingTested, TrunkFault, TrunkTest
from b2bua.directory import Trunk
from b2bua.net.resolver import Srv
from b2bua.sip.effects import Address
from b2bua.sip.message import Request, Response
from b2bua.ua.trunk_tests import PATIENCE, REST
from tests.support.office import ACME, OPERATOR, SERVER, Office, open_office
from tests.support.phone import Dead, Phone

THERE = Address("10.0.7.1", 5060)
BESIDE = Address("10.0.7.2", 5060)
CHALLENGE = ("WWW-Authenticate", 'Digest realm="operator", nonce="1", qop="auth"')


@pytest.fixture
def office():
    return open_office()


class Operator(Phone):
    """Answers each method with the status that is written down for it, and counts who asked."""

    statuses: dict[str, int]
    asked: list[str]

    def _yes(self, request: Request) -> Response:
        self.asked.append(request.method)
        status = self.statuses.get(request.method, 200)
        if status == 200:
            return super()._yes(request)
        return request.response(status, to_tag="t", headers=[CHALLENGE] if status == 401 else [])


def operator_at(office: Office, local: Address = THERE, **statuses: int) -> Operator:
    phone = Operator(f"operator-{local.host}", SERVER, seed=int(local.host.rpartition(".")[2]))
    phone.statuses, phone.asked = statuses, []
    office._phones[local.host] = phone.on(office.network, local)
    return phone


def line(**changes: object) -> Trunk:
    return replace(Trunk(ACME, "line", THERE.host, THERE.port), **changes)  # type: ignore[arg-type]


REGISTERING = line(register=True, user="account", password="pw")


async def result_of(office: Office, trunk: Trunk) -> TrunkTest:
    """Set up, given the time for its own first pings, and tested."""
    office.change(trunks=(trunk,))
    await office.pbx.settings_changed()
    await asyncio.sleep(1)
    return await office.pbx.test_trunk(ACME, trunk.name)


async def test_a_trunk_that_answers_works_and_it_is_said_how_fast(office: Office) -> None:
    operator_at(office)
    test = await result_of(office, line())
    (server,) = test.servers
    assert (server.address, server.answer, test.works, test.faults) == ("UDP 10.0.7.1:5060", "200 OK", True, [])
    assert server.milliseconds is not None
    assert 0 < server.milliseconds < 1000
    assert office.pbx.trunk_test(ACME, "line") == test


async def test_silence_is_waited_for_no_longer_than_the_patience(office: Office) -> None:
    operator_at(office).does = Dead()
    office.change(trunks=(line(),))
    await office.pbx.settings_changed()
    began = asyncio.get_running_loop().time()
    test = await office.pbx.test_trunk(ACME, "line")
    assert asyncio.get_running_loop().time() - began == pytest.approx(PATIENCE, abs=0.01)
    assert (test.works, test.faults, test.servers[0].milliseconds) == (False, [TrunkFault.SILENT], None)


async def test_a_closed_port_is_no_silence(office: Office) -> None:
    operator_at(office).close()
    test = await result_of(office, line())
    assert test.faults == [TrunkFault.UNREACHABLE]


async def test_each_server_of_a_name_is_asked_in_the_order_of_its_records(office: Office) -> None:
    first, second = operator_at(office), operator_at(office, BESIDE)
    second.does = Dead()
    office.dns.records["_sip._udp.operator.test", "SRV"] = (
        Srv(20, 0, 5060, "b.operator.test"), Srv(10, 0, 5060, "a.operator.test"))
    office.dns.records["a.operator.test", "A"] = (BESIDE.host,)
    office.dns.records["b.operator.test", "A"] = (THERE.host,)
    test = await result_of(office, line(host="operator.test", port=None))
    assert [one.address for one in test.servers] == ["UDP 10.0.7.2:5060", "UDP 10.0.7.1:5060"]
    assert (test.works, test.faults) == (True, [TrunkFault.SILENT])
    assert "OPTIONS" in first.asked


async def test_of_many_servers_some_are_asked_and_the_rest_is_counted(office: Office) -> None:
    operator_at(office)
    office.dns.records["operator.test", "A"] = tuple(f"10.0.7.{n}" for n in range(1, 8))
    test = await result_of(office, line(host="operator.test"))
    assert (len(test.servers), test.more_servers) == (4, 3)


@pytest.mark.parametrize(("trunk", "fault"), [
    (line(host="nowhere.test"), TrunkFault.NO_ADDRESS), (line(transport="TCP"), TrunkFault.NOT_SPOKEN)])
async def test_without_a_way_to_ask_it_says_why(office: Office, trunk: Trunk, fault: TrunkFault) -> None:
    test = await result_of(office, trunk)
    assert (test.servers, test.faults, test.works) == ((), [fault], False)


@pytest.mark.parametrize(("status", "fault"), [
    (403, TrunkFault.UNKNOWN_TO_THEM), (404, TrunkFault.UNKNOWN_TO_THEM), (401, TrunkFault.PASSWORD_WANTED),
    (500, TrunkFault.IN_TROUBLE), (503, TrunkFault.IN_TROUBLE), (405, None), (501, None)])
async def test_what_an_answer_to_options_means(office: Office, status: int, fault: TrunkFault | None) -> None:
    operator_at(office, OPTIONS=status)
    test = await result_of(office, line())
    assert test.servers[0].answer.startswith(str(status))
    assert test.faults == ([fault] if fault else [])
    assert test.works == (fault is None)


async def test_a_challenge_is_no_fault_for_who_has_a_password(office: Office) -> None:
    operator_at(office, OPTIONS=401)
    assert (await result_of(office, line(user="account", password="pw"))).works


async def test_a_registration_is_told_and_not_repeated(office: Office) -> None:
    operator = operator_at(office, OPTIONS=403)         # as registrars like to answer whom they do not know
    test = await result_of(office, REGISTERING)
    assert (test.works, test.faults) == (True, [])
    assert test.registration is not None
    assert (test.registration.is_registered, test.registration.answer) == (True, "200 OK")
    assert test.registration.again_in is not None
    assert operator.asked.count("REGISTER") == 1
    assert office.pbx.trunk_states()[0].up


async def test_a_registrar_that_answers_no_options_is_a_good_one(office: Office) -> None:
    operator_at(office)
    office.network.lose(lambda data, flow: data.startswith(b"OPTIONS") and flow.remote == THERE, times=20)
    test = await result_of(office, REGISTERING)
    assert (test.works, test.faults, test.servers[0].answer) == (True, [], "")


@pytest.mark.parametrize(("status", "fault"), [
    (401, TrunkFault.WRONG_PASSWORD), (403, TrunkFault.ACCOUNT_REFUSED), (404, TrunkFault.ACCOUNT_REFUSED),
    (500, TrunkFault.REGISTRATION_FAILED)])
async def test_what_a_refused_registration_means(office: Office, status: int, fault: TrunkFault) -> None:
    operator = operator_at(office, REGISTER=status)
    test = await result_of(office, REGISTERING)
    before = operator.asked.count("REGISTER")
    assert (test.works, test.faults) == (False, [fault])
    assert test.registration is not None
    assert test.registration.answer.startswith(str(status))
    assert operator.asked.count("REGISTER") == before


async def test_a_silent_registrar_is_waited_for_by_the_registration_alone(office: Office) -> None:
    operator_at(office).does = Dead()
    test = await result_of(office, REGISTERING)
    assert test.faults == [TrunkFault.SILENT, TrunkFault.NOT_REGISTERED_YET]
    await asyncio.sleep(32)                             # timer F
    test = await office.pbx.test_trunk(ACME, "line")
    assert test.faults == [TrunkFault.SILENT, TrunkFault.REGISTRAR_SILENT]


async def test_one_client_tests_one_trunk_at_a_time(office: Office) -> None:
    operator_at(office).does = Dead()
    office.change(trunks=(line(), line(name="other")))
    await office.pbx.settings_changed()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(office.pbx.test_trunk(ACME, "line"))
        await asyncio.sleep(1)
        with pytest.raises(BeingTested):
            await office.pbx.test_trunk(ACME, "other")
    assert not first.result().works
    with pytest.raises(BeingTested):
        await office.pbx.test_trunk(ACME, "line")
    await asyncio.sleep(REST)
    await office.pbx.test_trunk(ACME, "other")


async def test_what_is_not_there_is_not_tested(office: Office) -> None:
    for client, name in ((ACME, "nothing"), (ClientId("beta"), "operator")):
        with pytest.raises(LookupError):
            await office.pbx.test_trunk(client, name)
        assert office.pbx.trunk_test(client, name) is None


async def test_a_test_is_of_the_trunk_as_it_is_set_up(office: Office) -> None:
    operator_at(office)
    await result_of(office, line())
    office.change(trunks=(line(caller_id="+74951112233"),))
    await office.pbx.settings_changed()
    assert office.pbx.trunk_test(ACME, "line") is None


async def test_a_test_changes_nothing_for_calls(office: Office) -> None:
    """Neither a trunk's state, nor the order of its servers, nor a call under way."""
    anna = await office.phone("101")
    call = anna.call("+79265554433")
    await call.answered.wait()
    states = office.pbx.trunk_states()
    office.trunk.does = Dead()
    test = await office.pbx.test_trunk(ACME, "operator")
    assert not test.works
    assert [(state.name, state.up) for state in office.pbx.trunk_states()] == [(one.name, one.up) for one in states]
    assert not call.over.is_set()
    call.hang_up()
    assert (await office.record()).disposition is Disposition.ANSWERED
    assert OPERATOR.host in test.servers[0].address
