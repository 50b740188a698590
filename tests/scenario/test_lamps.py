"""Busy lamp fields: phones that watch colleagues' phones through whole calls (RFC 4235, RFC 6665)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from b2bua.sip.effects import Address, Transport
from b2bua.sip.message import Response
from b2bua.sip.subscription import RATE, SubscriptionPolicy
from b2bua.ua.notifier import Notifier
from tests.support.network import Conditions
from tests.support.office import DID, PASSWORD, SERVER, Office, faultless_office, open_office
from tests.support.phone import Answers, Rings
from tests.support.watcher import Lamp, WatchingPhone, reason_of, watching_phone

IVAN = "+79161234567"


@pytest.fixture
def office():
    return faultless_office()


async def lamp_at(office: Office, number: str, *, by: str = "101") -> tuple[WatchingPhone, Lamp]:
    phone = await watching_phone(office, by)
    lamp = phone.lamp(number)
    assert (await lamp.subscribe()).status == 200
    await asyncio.sleep(RATE + 0.1)
    assert lamp.states == [[]]
    return phone, lamp


async def shows_callers(office: Office) -> None:
    office.change(clients=(replace(office.books.directory.clients[0], show_callers=True),))
    await office.pbx.settings_changed()


async def quiet(office: Office, *lamps: Lamp) -> None:
    """The lamps are taken away, and nothing is left of them or of what they watched."""
    for lamp in lamps:
        await lamp.subscribe(0)
    await office.all_quiet()
    assert len(office.pbx.notifier.subscriptions) == 0
    assert len(office.pbx.board) == 0


async def test_an_outside_call_blinks_is_lit_and_goes_out(office: Office) -> None:
    _, lamp = await lamp_at(office, "102")
    await office.phone("102", Answers(after=5.0))
    ivan = office.trunk.call(DID, as_=IVAN)
    await ivan.answered.wait()
    await asyncio.sleep(5)
    ivan.hang_up()
    await asyncio.sleep(5)
    assert lamp.states == [[], ["early"], ["confirmed"], []]
    ringing = lamp.told[1][0]
    assert (ringing.direction, ringing.remote) == ("recipient", "")
    assert ringing.call_id
    talking = lamp.told[2][0]
    assert (talking.id, talking.call_id) == (ringing.id, "")       # only what can be picked up has its tags told
    assert lamp.told[3][0].id == ringing.id                        # and it is told that this very dialog is over
    assert lamp.told[3][0].state == "terminated"
    await office.record()
    await quiet(office, lamp)


async def test_the_lamp_blinks_at_once(office: Office) -> None:
    _, lamp = await lamp_at(office, "102")
    boris = await office.phone("102", Rings())
    ivan = office.trunk.call(DID, as_=IVAN)
    await ivan.rang.wait()
    await asyncio.sleep(0.1)
    rang_at = boris.calls[0].rang_at
    assert rang_at is not None
    assert lamp.lit == ["early"]
    assert lamp.at[-1] - rang_at < 0.1
    ivan.hang_up()
    await office.record()
    await asyncio.sleep(2)
    assert lamp.lit == []
    await quiet(office, lamp)


async def test_who_dials_is_trying_then_early_then_confirmed(office: Office) -> None:
    _, lamp = await lamp_at(office, "103")
    vera = await office.phone("103", Rings())
    office.trunk.does = Answers(after=4.0)
    call = vera.call("+79265554433")
    await call.answered.wait()
    await asyncio.sleep(3)
    call.hang_up()
    await asyncio.sleep(3)
    assert lamp.states in ([[], ["trying"], ["early"], ["confirmed"], []], [[], ["early"], ["confirmed"], []])
    assert {told[0].direction for told in lamp.told[1:-1]} == {"initiator"}
    await office.record()
    await quiet(office, lamp)


async def test_colleagues_who_ring_together_blink_together_and_one_stays_lit(office: Office) -> None:
    office.change(numbers=(replace(office.books.directory.numbers[0], destination="600"),))
    await office.pbx.settings_changed()
    watcher, boris_lamp = await lamp_at(office, "102")
    vera_lamp = watcher.lamp("103")
    await vera_lamp.subscribe()
    await office.phone("102", Rings())
    await office.phone("103", Answers(after=5.0))
    ivan = office.trunk.call(DID, as_=IVAN)
    await ivan.answered.wait()
    await asyncio.sleep(3)
    assert (boris_lamp.states, vera_lamp.states) == ([[], ["early"], []], [[], ["early"], ["confirmed"]])
    ivan.hang_up()
    await office.record()
    await asyncio.sleep(3)
    await quiet(office, boris_lamp, vera_lamp)


async def test_an_internal_call_lights_both_and_says_with_whom_where_the_client_lets_it(office: Office) -> None:
    await shows_callers(office)
    watcher, anna_lamp = await lamp_at(office, "103", by="101")
    boris_lamp = watcher.lamp("102")
    await boris_lamp.subscribe()
    await office.phone("102", Answers(after=3.0))
    vera = await office.phone("103", Rings())
    call = vera.call("102")
    await call.answered.wait()
    await asyncio.sleep(3)
    assert (anna_lamp.lit, boris_lamp.lit) == (["confirmed"], ["confirmed"])
    ringing, talking = boris_lamp.told[1][0], boris_lamp.told[-1][0]
    assert (ringing.remote, ringing.name) == ("sip:103@10.0.0.1", "Employee 103")
    assert (talking.remote, talking.name) == ("sip:103@10.0.0.1", "Employee 103")
    assert anna_lamp.told[-1][0].remote == "sip:102@10.0.0.1"
    call.hang_up()
    await office.record()
    await asyncio.sleep(3)
    await quiet(office, anna_lamp, boris_lamp)


@pytest.mark.parametrize("headers", [(("Privacy", "id"),), (("Privacy", "user;critical"),)])
async def test_a_withheld_number_is_shown_to_nobody_who_watches(
    office: Office, headers: tuple[tuple[str, str], ...]
) -> None:
    await shows_callers(office)
    _, lamp = await lamp_at(office, "102")
    await office.phone("102", Answers(after=3.0))
    ivan = office.trunk.call(DID, as_=IVAN, headers=headers)
    await ivan.answered.wait()
    await asyncio.sleep(3)
    assert lamp.states == [[], ["early"], ["confirmed"]]
    assert {one.remote for told in lamp.told for one in told} == {""}
    assert all(b"9161234567" not in notify.body for notify in lamp.notifies)
    ivan.hang_up()
    await office.record()
    await asyncio.sleep(3)
    await quiet(office, lamp)


async def test_a_blind_transfer_moves_the_light(office: Office) -> None:
    watcher, boris_lamp = await lamp_at(office, "102")
    vera_lamp = watcher.lamp("103")
    await vera_lamp.subscribe()
    boris, _ = await office.phone("102", Answers(1.0)), await office.phone("103", Answers(3.0))
    ivan = office.trunk.call(DID, as_=IVAN)
    await ivan.answered.wait()
    await asyncio.sleep(3)
    boris.calls[0].refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(12)
    assert boris_lamp.states[-2:] == [["confirmed"], []]
    assert vera_lamp.states == [[], ["early"], ["confirmed"]]
    ivan.hang_up()
    await office.record()
    await asyncio.sleep(3)
    assert vera_lamp.lit == []
    await quiet(office, boris_lamp, vera_lamp)


async def test_an_attended_transfer_leaves_the_third_lit_without_a_flicker(office: Office) -> None:
    watcher, boris_lamp = await lamp_at(office, "102")
    vera_lamp = watcher.lamp("103")
    await vera_lamp.subscribe()
    boris, _ = await office.phone("102", Answers(1.0)), await office.phone("103", Answers(1.0))
    ivan = office.trunk.call(DID, as_=IVAN)
    await ivan.answered.wait()
    await asyncio.sleep(3)
    second = boris.call("103")
    await second.answered.wait()
    await asyncio.sleep(3)
    assert boris_lamp.lit == ["confirmed", "confirmed"]
    boris.calls[0].refer_to(second)
    await asyncio.sleep(10)
    assert boris_lamp.lit == []
    assert vera_lamp.states == [[], ["early"], ["confirmed"]]
    ivan.hang_up()
    await office.record(2)
    await asyncio.sleep(3)
    await quiet(office, boris_lamp, vera_lamp)


async def test_a_pick_up_puts_one_lamp_out_and_lights_another(office: Office) -> None:
    watcher, boris_lamp = await lamp_at(office, "102")
    vera_lamp = watcher.lamp("103")
    await vera_lamp.subscribe()
    await office.phone("102", Rings())
    vera = await office.phone("103", Rings())
    ivan = office.trunk.call(DID, as_=IVAN)
    await ivan.rang.wait()
    await asyncio.sleep(3)
    mine = vera.call("**102")
    await mine.answered.wait()
    await asyncio.sleep(3)
    assert (boris_lamp.states, vera_lamp.states) == ([[], ["early"], []], [[], ["confirmed"]])
    assert vera_lamp.told[-1][0].direction == "initiator"
    ivan.hang_up()
    await office.record()
    await asyncio.sleep(3)
    await quiet(office, boris_lamp, vera_lamp)


async def test_changes_faster_than_one_a_second_are_told_together(office: Office) -> None:
    _, lamp = await lamp_at(office, "103")
    vera = await office.phone("103", Rings())
    told = len(lamp.told)
    for _ in range(20):
        call = vera.call("102")            # no phone of it is there: 480
        await call.over.wait()
        call = vera.call("101")
        await call.rang.wait()
        call.hang_up()
        await asyncio.sleep(0.1)
    await asyncio.sleep(3)
    assert lamp.lit == []
    assert len(lamp.told) - told <= 20 * 0.5 / RATE + 3
    gaps = [later - earlier for earlier, later in zip(lamp.at[told:], lamp.at[told + 1:], strict=False)]
    assert min(gaps) >= RATE - 0.1
    await quiet(office, lamp)


# -- the subscription itself

async def test_it_is_answered_told_refreshed_and_ended(office: Office) -> None:
    watcher = await watching_phone(office, "101")
    lamp = watcher.lamp("102")
    first = await lamp.subscribe(600)
    assert (first.status, first.expires) == (200, 600)
    assert str(first.contact) == "<sip:102@10.0.0.1:5060>"
    await asyncio.sleep(0.1)
    assert lamp.state == "active;expires=600"
    assert lamp.notifies[0].headers.get("Event") == "dialog"
    assert lamp.notifies[0].headers.get("Content-Type") == "application/dialog-info+xml"
    assert str(lamp.notifies[0].uri) == "sip:101@10.0.3.101:5060"
    await asyncio.sleep(300)
    again = await lamp.subscribe(600)
    assert (again.status, again.expires) == (200, 600)
    await asyncio.sleep(0.1)
    assert len(lamp.notifies) == 2         # one for each SUBSCRIBE, whether or not anything has changed
    await asyncio.sleep(599)
    assert len(lamp.notifies) == 2
    await asyncio.sleep(2)
    assert (lamp.state, len(office.pbx.notifier.subscriptions)) == ("terminated;reason=timeout", 0)
    late = await lamp.subscribe()
    assert late.status == 481
    await office.all_quiet()


async def test_a_fetch_is_told_once(office: Office) -> None:
    watcher = await watching_phone(office, "101")
    lamp = watcher.lamp("102", event="dialog;id=7")
    assert (await lamp.subscribe(0)).expires == 0
    await asyncio.sleep(0.1)
    assert lamp.state == "terminated;reason=timeout"
    assert lamp.notifies[0].headers.get("Event") == "dialog;id=7"
    await quiet(office)


@pytest.mark.parametrize(("expires", "status", "granted"), [
    (None, 200, 3600), (59, 423, None), (60, 200, 60), (1_000_000, 200, 3600)])
async def test_how_long_it_lasts(office: Office, expires: int | None, status: int, granted: int | None) -> None:
    watcher = await watching_phone(office, "101")
    lamp = watcher.lamp("102")
    response = await lamp.subscribe(expires)
    assert (response.status, response.expires) == (status, granted)
    if status == 423:
        assert response.min_expires == 60
        assert len(office.pbx.notifier.subscriptions) == 0
    else:
        await quiet(office, lamp)


async def test_other_events_are_refused_and_nothing_is_kept(office: Office) -> None:
    watcher = await watching_phone(office, "101")
    await asyncio.sleep(60)
    before = office.agent.core.transactions.live_servers
    for event in ("message-summary", "reg", "presence", "as-feature-event", "dialogs", ""):
        response = await watcher.lamp("101", event=event).subscribe()
        assert (response.status, response.headers.get("Allow-Events")) == (489, "dialog")
    assert office.agent.core.transactions.live_servers == before == 0
    assert office.pbx.notifier.subscriptions.counters.refused["489"] == 6
    await office.all_quiet()


async def test_who_can_read_no_dialog_info_is_told_so(office: Office) -> None:
    watcher = await watching_phone(office, "101")
    lamp = watcher.lamp("102")
    response, _ = await watcher.ask_in(lamp, (
        ("Event", "dialog"), ("Contact", watcher.contact), ("Accept", "application/pidf+xml")))
    assert response.status == 401
    credentials = watcher.credentials(response, _)
    assert credentials is not None
    lamp.cseq += 1
    response, _ = await watcher.ask_in(lamp, (
        ("Event", "dialog"), ("Contact", watcher.contact), ("Accept", "application/pidf+xml"), *credentials))
    assert (response.status, response.headers.get("Accept")) == (406, "application/dialog-info+xml")
    await office.all_quiet()


async def test_nobody_subscribes_without_a_password_and_a_stranger_learns_nothing(office: Office) -> None:
    watcher = WatchingPhone("101", SERVER, password="", seed=77)
    watcher.on(office.network, Address("10.0.9.9", 5060))
    response = await watcher.lamp("102").subscribe()
    assert response.status == 401
    assert office.agent.core.transactions.live_servers == 0
    assert len(office.pbx.notifier.subscriptions) == 0
    watcher.close()


async def test_only_extensions_of_the_own_client_can_be_watched(office: Office) -> None:
    watcher = await watching_phone(office, "101")
    for nobody in ("999", "operator", DID):
        assert (await watcher.lamp(nobody).subscribe()).status == 404
    assert len(office.pbx.notifier.subscriptions) == 0
    await office.all_quiet()


async def test_nobody_refreshes_somebody_elses(office: Office) -> None:
    _, lamp = await lamp_at(office, "102")
    vera = await watching_phone(office, "103")
    other = vera.lamp("102", call_id=lamp.call_id)
    other.me, other.to, other.cseq = lamp.me, lamp.to, 50
    assert (await other.subscribe(0)).status == 481
    assert len(office.pbx.notifier.subscriptions) == 1
    await quiet(office, lamp)


@pytest.mark.parametrize("status", [481, 404, 500, 0])
async def test_a_phone_that_does_not_know_it_any_more_is_told_nothing_more(office: Office, status: int) -> None:
    _, lamp = await lamp_at(office, "102")
    lamp.answers_with = status
    await office.phone("102", Rings())
    ivan = office.trunk.call(DID, as_=IVAN)
    await ivan.rang.wait()
    await asyncio.sleep(40)                # 32 s until nobody answers, which no other NOTIFY shortens
    assert len(office.pbx.notifier.subscriptions) == 0
    assert office.pbx.notifier.subscriptions.counters.failed == 1
    ivan.hang_up()
    await office.record()
    await office.all_quiet()


async def test_a_restarted_phone_subscribes_anew_and_the_old_one_is_found_out(office: Office) -> None:
    watcher, old = await lamp_at(office, "102")
    old.answers_with = 481                 # it has forgotten
    new = watcher.lamp("102")
    assert (await new.subscribe()).status == 200
    await asyncio.sleep(1)
    assert len(office.pbx.notifier.subscriptions) == 1
    assert new.states == [[]]
    await quiet(office, new)


async def test_a_phone_with_two_keys_for_one_colleague_keeps_both(office: Office) -> None:
    watcher, one = await lamp_at(office, "102")
    other = watcher.lamp("102")
    assert (await other.subscribe()).status == 200
    await asyncio.sleep(2)
    assert len(office.pbx.notifier.subscriptions) == 2
    await quiet(office, one, other)


async def test_who_leaves_the_directory_is_watched_and_watches_no_more(office: Office) -> None:
    _, lamp = await lamp_at(office, "102")
    vera = await watching_phone(office, "103")
    theirs = vera.lamp("101")
    await theirs.subscribe()
    await asyncio.sleep(1)
    office.change(extensions=tuple(one for one in office.books.directory.extensions if one.number == "101"),
                  groups=(), numbers=())
    await office.pbx.settings_changed()
    await asyncio.sleep(1)
    assert reason_of(lamp.state) == "noresource"
    assert reason_of(theirs.state) == "rejected"
    assert len(office.pbx.notifier.subscriptions) == 0
    office._phones.pop("watching 103").close()
    await office.all_quiet()


async def test_at_the_end_phones_are_told_to_subscribe_anew(office: Office) -> None:
    watcher, lamp = await lamp_at(office, "102")
    await office.pbx.drain(0)
    await asyncio.sleep(1)
    assert reason_of(lamp.state) == "deactivated"
    assert (await watcher.lamp("103").subscribe()).status == 503


async def test_a_connection_that_ends_takes_its_subscriptions_with_it(office: Office) -> None:
    office.agent.transports[Transport.TCP] = office.network.attach(SERVER, office.agent, Transport.TCP)
    watcher = WatchingPhone("101", SERVER, password=PASSWORD, seed=60)
    watcher.plug(lambda sink: office.network.attach(Address("10.0.3.101", 5060), sink, Transport.TCP))
    lamp = watcher.lamp("102")
    assert (await lamp.subscribe()).status == 200
    await asyncio.sleep(2)
    assert lamp.states == [[]]
    assert len(office.pbx.notifier.subscriptions) == 1
    watcher.close()
    await asyncio.sleep(1)
    assert len(office.pbx.notifier.subscriptions) == 0
    await office.all_quiet()


async def test_a_whole_office_behind_one_address_gets_its_lamps(office: Office) -> None:
    watcher = await watching_phone(office, "101")
    for number in range(600):              # more than challenges that a stranger leaves unanswered
        lamp = watcher.lamp("102", call_id=f"unanswered-{number}")
        lamp.cseq = 1
        response, _ = await watcher.ask_in(lamp, (("Event", "dialog"), ("Contact", watcher.contact)))
        assert response.status == 401
    assert (await watcher.lamp("102").subscribe()).status == 200


async def test_many_who_watch_one_are_all_told(office: Office) -> None:
    watcher = await watching_phone(office, "101")
    lamps = [watcher.lamp("102") for _ in range(95)]
    for lamp in lamps:
        assert (await lamp.subscribe()).status == 200
    await office.phone("102", Rings())
    ivan = office.trunk.call(DID, as_=IVAN)
    await ivan.rang.wait()
    await asyncio.sleep(2)
    assert all(lamp.lit == ["early"] for lamp in lamps)
    ivan.hang_up()
    await office.record()
    await asyncio.sleep(2)
    assert all(lamp.lit == [] for lamp in lamps)
    await quiet(office, *lamps)


async def test_the_limits_hold_and_are_told(office: Office) -> None:
    policy = SubscriptionPolicy(per_phone=2, per_watcher=3, per_watched=2, per_client=4, total=5)
    notifier = office.pbx.notifier = Notifier(office.agent, office.pbx._dialogs_of, policy)
    office.pbx.board.changed = notifier.changed
    desk, mobile = await watching_phone(office, "101"), await watching_phone(office, "101", host="10.0.3.201")
    vera = await watching_phone(office, "103")
    lamps = [desk.lamp("102"), desk.lamp("103"), desk.lamp("101"), mobile.lamp("101"), mobile.lamp("102"),
             vera.lamp("101"), vera.lamp("101", call_id="x")]
    statuses = [(await lamp.subscribe()).status for lamp in lamps]
    # The third of one phone, the fourth of one extension, the third that watches 101.
    assert statuses == [200, 200, 403, 200, 403, 200, 403]
    await lamps[0].subscribe(0)
    assert (await desk.lamp("101", call_id="y").subscribe()).status == 403
    assert (await desk.lamp("103", call_id="z").subscribe()).status == 200
    office.pbx.notifier.subscriptions._policy = replace(policy, total=4)
    response = await vera.lamp("102").subscribe()
    assert (response.status, response.headers.get("Retry-After")) == (503, "60")


async def test_a_subscribe_that_comes_twice_makes_one() -> None:
    async with open_office(conditions=Conditions(duplication=1.0)) as office:
        watcher = await watching_phone(office, "101")
        lamp = watcher.lamp("102")
        assert (await lamp.subscribe()).status == 200
        await asyncio.sleep(3)
        assert len(office.pbx.notifier.subscriptions) == 1
        assert len(lamp.notifies) == 1
        assert office.pbx.notifier.subscriptions.counters.subscribed == 1


async def test_a_lossy_network_does_not_leave_a_lamp_wrong() -> None:
    for seed in range(6):
        async with open_office(seed=seed, conditions=Conditions(loss=0.2, duplication=0.1)) as office:
            watcher = await watching_phone(office, "101")
            lamp = watcher.lamp("102")
            response = await lamp.subscribe()
            if response.status != 200:
                continue
            await office.phone("102", Answers(after=3.0))
            ivan = office.trunk.call(DID, as_=IVAN)
            await asyncio.sleep(8)
            ivan.hang_up()
            await asyncio.sleep(90)
            if len(office.pbx.notifier.subscriptions):     # a NOTIFY lost eleven times ends it
                assert lamp.lit == []


# -- what else comes from outside of calls

async def test_what_is_none_of_ours_gets_its_proper_no(office: Office) -> None:
    watcher = await watching_phone(office, "101")
    # As talkative as phones are: the answer over UDP is no longer than the request.
    says = (("Event", "message-summary"), ("User-Agent", "A phone 1.2.3 00a859000000"),
            ("Allow", "INVITE, ACK, OPTIONS, BYE, CANCEL, REFER, NOTIFY, INFO, PRACK, UPDATE, MESSAGE, PUBLISH"),
            ("Allow-Events", "talk, hold, conference, refer, check-sync"),
            ("Accept", "application/sdp, application/dtmf-relay, text/plain"))

    async def ask(method: str) -> Response:
        response, _ = await watcher._ask(method, says, f"{method}-1")
        return response

    options = await ask("OPTIONS")
    assert options.status == 200
    assert "INVITE" in options.allow
    assert options.headers.get("Allow-Events") == "dialog"
    assert options.headers.get("Accept") == "application/sdp"
    message = await ask("MESSAGE")
    assert message.status == 405
    assert "MESSAGE" not in message.allow
    assert "INVITE" in message.allow
    publish = await ask("PUBLISH")
    assert publish.status == 405
    assert "SUBSCRIBE" in publish.allow
    assert (await ask("NOTIFY")).status == 481
    assert (await ask("INFO")).status == 481
    await office.all_quiet()
