"""The flows of docs/call-flows.md, in its order: each test asserts how a call ends, and draws what was sent.

A new one is a function with `@flow("Title")`, whose docstring goes above the ladder, and `scripts/call-flows`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from b2bua.calls.left_behind import Undertaker
from b2bua.cdr import CallRecord, Disposition, EndedBy, EndReason
from b2bua.control import Transfer
from b2bua.directory import Strategy, Trunk
from b2bua.media.relay import wire
from b2bua.sip.core import CoreConfig
from b2bua.sip.effects import Address
from b2bua.sip.session_timer import SessionTimerPolicy
from tests.scenario.test_after_a_crash import next_process
from tests.support.anchored import AnchoredPlane
from tests.support.flows import FILE, FLOWS, HEAD, assert_written, flow, sections
from tests.support.office import ACME, DID, OPERATOR, SERVER, Office
from tests.support.phone import Answers, Dead, Phone, PhoneCall, Rejects, Rings
from tests.support.watcher import watching_phone

IVAN, MARIA, MOBILE = "+79161234567", "+79265554433", "+79160000001"
SPARE, THIRD = Address("10.0.1.2", 5060), Address("10.0.1.3", 5060)
STRANGER = Address("10.9.9.9", 5060)
DESK_AND_MOBILE = {"10.0.3.1": "mobile 102"}


async def goes(office: Office, **changes: object) -> None:
    """The office's one number does."""
    office.change(numbers=(replace(office.books.directory.numbers[0], **changes),))  # type: ignore[arg-type]
    await office.pbx.settings_changed()


async def answered(office: Office) -> PhoneCall:
    """Ivan calls, and 102 answers."""
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    await asyncio.sleep(5)
    return call


async def ends(office: Office, call: PhoneCall, count: int = 1) -> CallRecord:
    call.hang_up()
    return await office.record(count)


# -- calls from outside


@flow("From the trunk to the responsible person's phone", shows=("From",), crm=True)
async def test_to_the_responsible_person(office: Office) -> None:
    """amoCRM is asked who calls, for 1.5 s at most; the phone of the responsible person rings, and shows the contact's
    name.

    Nobody answers there within `responsible_ring_seconds`, or no phone is registered: the number's normal destination
    rings. Nobody answers there either: 480 to the trunk, a missed call in the books and in the CRM. The record and
    what the CRM shall learn are written in one transaction; the note, with the link to the recording, goes out when
    the MP3 is there.
    """
    office.crm.knows(IVAN, "Иван Петров", responsible=77)
    anna = await office.phone("101")
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    await asyncio.sleep(60)
    record = await ends(office, call)
    assert anna.calls[0].shown == "Иван Петров"
    assert (record.disposition, record.extension) == (Disposition.ANSWERED, "101")


@flow("The responsible person does not answer")
async def test_the_responsible_person_does_not_answer(office: Office) -> None:
    """The number's destination follows; the caller hears one call ring all the time."""
    office.crm.knows(IVAN, "Иван Петров", responsible=77)
    await office.phone("101", Rings())
    await office.phone("102")
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    record = await ends(office, call)
    assert (record.extension, record.rang) == ("102", ("101", "102"))


@flow("The CRM does not answer", crm=True)
async def test_the_crm_is_slow(office: Office) -> None:
    """No phone waits for it longer than the client's patience."""
    office.crm.delay = 30
    boris = await office.phone("102", Answers(after=1.0))
    call = await answered(office)
    await ends(office, call)
    assert boris.calls[0].shown == ""


@flow("The caller gives up")
async def test_the_caller_gives_up(office: Office) -> None:
    """CANCEL goes to every phone that rings. The record says *abandoned*, by the caller."""
    await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.rang.wait()
    await asyncio.sleep(4)
    assert (await ends(office, call)).disposition is Disposition.ABANDONED


@flow("CANCEL and 200 cross")
async def test_cancel_and_200_cross(office: Office) -> None:
    """A phone that was picked up while its CANCEL was under way has a call; we acknowledge it and end it (RFC 3261
    §15).
    """
    boris = await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.rang.wait()
    await asyncio.sleep(4)
    asyncio.get_running_loop().call_later(0.003, boris.calls[0].answer)      # our CANCEL is on its way
    assert (await ends(office, call)).disposition is Disposition.ABANDONED
    assert boris.calls[0].answered.is_set()
    assert boris.calls[0].over.is_set()


@flow("The losers of a fork", names=DESK_AND_MOBILE)
async def test_the_losers_of_a_fork(office: Office) -> None:
    """Every phone of an extension, and every member of a group, rings. The first 200 wins; the others get CANCEL. A
    200 that crosses the CANCEL is ACKed and ended by BYE. 486, 480, 404 and the like end a branch; a 6xx ends the
    other phones of the same person, not those of a colleague (deviation from RFC 3261 §16.7, whose branches are one
    person's). When all have failed, the caller gets the best failure (RFC 3261 §16.7): 6xx, else the lowest class;
    503, 401 and 407 stay here.
    """
    desk = await office.phone("102", Rings())
    await office.phone("102", Answers(after=3.0), host="10.0.3.1")
    call = await answered(office)
    assert desk.calls[0].status != 200
    assert (await ends(office, call)).extension == "102"


@flow("A phone that answers with early media")
async def test_early_media(office: Office) -> None:
    """Goes on to the caller. What makes a 183 reliable, PRACK (RFC 3262), is between us and the side that wants it."""
    boris = await office.phone("102", Answers(after=9.0, rings=False))
    office.trunk.call(DID, as_=IVAN)
    ringing = await boris.was_called()
    boris.do(ringing.session.progress(183, boris.now(), body=boris.answer_to(ringing.sdp), reliable=True))
    call = office.trunk.calls[0]
    await call.answered.wait()
    assert (await ends(office, call)).disposition is Disposition.ANSWERED


# -- groups, and where calls go on


@flow("A group whose members ring together")
async def test_a_group_together(office: Office) -> None:
    """A decline speaks for one person only: the colleague rings on."""
    await goes(office, destination="600")
    await office.phone("102", Rejects(603, after=2.0))
    await office.phone("103", Answers(after=4.0))
    call = await answered(office)
    assert (await ends(office, call)).extension == "103"


@flow("A group whose members ring in turn")
async def test_a_group_in_turn(office: Office) -> None:
    """`in-turn` takes the members as they stand, `round` begins with another one at each call, `longest-idle` with who
    has been without a call longest. A busy phone, or one that declines, is followed by the next at once.
    """
    office.change(groups=(replace(office.books.directory.groups[0], strategy=Strategy.IN_TURN, member_seconds=10),))
    await goes(office, destination="600")
    await office.phone("102", Rings())
    await office.phone("103")
    call = await answered(office)
    record = await ends(office, call)
    assert (record.extension, record.rang) == ("103", ("102", "103"))


@flow("Where a call goes on that nobody took")
async def test_overflow(office: Office) -> None:
    """Here with `on_busy`; the same after `ring_seconds` (CANCEL, then `on_no_answer`) and for phones that cannot be
    reached (`on_unregistered`; when none is registered no INVITE is sent there at all). A number that has `hours`
    begins with `otherwise` outside of them. When nobody takes the call in the end, the caller gets what the last
    destination said.
    """
    await goes(office, on_busy="103")
    await office.phone("102", Rejects(486))
    await office.phone("103")
    call = await answered(office)
    assert "102 is busy: on to 103" in (await ends(office, call)).why


@flow("A phone sends a call on to a colleague")
async def test_a_redirection(office: Office) -> None:
    """The sixth 302 in a row is not followed, and one that is not followed is 480 to the caller."""
    await office.phone("102", Rejects(302, contact="<sip:103@10.0.0.1>"))
    await office.phone("103")
    call = await answered(office)
    assert "102 sends the call on to 103" in (await ends(office, call)).why


@flow("A phone sends a call on outside", shows=("Diversion",))
async def test_a_redirection_outside(office: Office) -> None:
    """Only with `forward_outside`; the trunk learns whose call it was (RFC 5806). The one call counts for two lines."""
    clients = tuple(replace(one, forward_outside=True, caller_id=DID) for one in office.books.directory.clients)
    office.change(clients=clients)
    await office.pbx.settings_changed()
    await office.phone("102", Rejects(302, contact=f"<sip:{MOBILE}@10.0.0.1>"))
    call = await answered(office)
    assert (await ends(office, call)).extension is None


# -- sounds


@flow("An announcement")
async def test_an_announcement(office: Office) -> None:
    """Every destination may be `announcement:NAME`: the call is answered, the sound is played once, and we hang up. It
    is not recorded, and in the books it is no answered call. A caller who offers neither PCMA nor PCMU gets the
    failure itself, and so does everybody when that sound is gone.
    """
    await goes(office, destination="announcement:unavailable")
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert (record.disposition, record.reason) == (Disposition.UNREACHABLE, EndReason.ANNOUNCED)


@flow("An announcement after phones have rung")
async def test_an_announcement_after_ringing(office: Office) -> None:
    """In the dialog in which it rang. It was no answer all the same: a missed call in the books and in the CRM."""
    await goes(office, on_no_answer="announcement:busy", ring_seconds=10)
    await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert (record.disposition, record.reason, record.rang) == (
        Disposition.NO_ANSWER, EndReason.ANNOUNCED, ("102",))


# -- calls of the office


@flow("From a phone to a phone")
async def test_an_internal_call(office: Office) -> None:
    """None of the CRM's business."""
    anna, boris = await office.phone("101"), await office.phone("102")
    call = anna.call("102")
    await call.answered.wait()
    await asyncio.sleep(60)
    record = await ends(office, boris.calls[0])
    assert (record.ended_by, office.books.writes) == (EndedBy.CALLEE, [])


@flow("A phone calls out", shows=("From",))
async def test_a_call_out(office: Office) -> None:
    """INVITE without credentials is challenged by 401, and nothing is kept of it. To the trunk goes the client's
    number in From; where the trunk challenges, its own credentials are the answer, and the phone sees nothing of that.
    """
    trunk = replace(office.books.directory.trunks[0], user="account", password="secret")
    office.change(trunks=(trunk,))
    await office.pbx.settings_changed()
    anna = await office.phone("101")
    office.trunk.does = Answers(after=9.0, rings=False)
    call = anna.call(MARIA)
    challenged = await office.trunk.was_called()
    office.trunk.does = Answers(after=3.0)
    challenge = 'Digest realm="operator", nonce="1", qop="auth", algorithm=MD5'
    headers = (("Proxy-Authenticate", challenge),)
    office.trunk.do(challenged.session.reject(407, office.trunk.now(), headers=headers))
    challenged.finish()
    await call.answered.wait()
    await asyncio.sleep(60)
    assert (await ends(office, call)).disposition is Disposition.ANSWERED


@flow("A phone calls out, and withholds its number", shows=("From", "Privacy", "P-Asserted-Identity"))
async def test_who_calls(office: Office) -> None:
    """Outgoing: the extension's `caller_id`, else the trunk's, else the client's, in From and in the trunk's
    `identity` header. Withheld by `hide_caller_id`, or by the phone itself (Privacy, or From *anonymous*): From is
    `sip:anonymous@anonymous.invalid` with `Privacy: id`, and only the identity header tells the operator (RFC 3325
    §9.3).

    Incoming: the first header of the trunk's `trusts` that has a number. `Privacy: id`, `user` or `header`, and
    `privacy=full` in Remote-Party-ID, withhold it: the call comes in without a number, and is a call like others.
    Diversion (RFC 5806), else History-Info (RFC 7044), go into the call's explanation.
    """
    office.change(trunks=(replace(office.books.directory.trunks[0], profile="e164-plus-pai"),))
    await office.pbx.settings_changed()
    anna = await office.phone("101")
    call = anna.call(MARIA, headers=[("Privacy", "id")])
    await call.answered.wait()
    assert office.trunk.calls[0].caller == "anonymous"
    await ends(office, call)


@flow("A number is clicked", shows=("From",))
async def test_a_clicked_number(office: Office) -> None:
    """The phone of who clicks rings, and shows whom it is about to call; once it is picked up, that number is called by
    the same plan, limits and caller id as if it had been dialled. Until the other side sends early media or answers,
    the employee hears our ring tone. The phone was offered G.711 and the other side what the phone has answered, so
    that offer and answer are complete on both sides with its 200 (RFC 3725 §4; see the next flow for codecs).

    Talk and recording begin with the answer of the other side. If the employee does not pick up, nobody is called, and
    the CRM hears nothing.
    """
    await office.phone("101")
    clicked = office.pbx.click2call(ACME, "101", MARIA, "1")
    outside = await office.trunk.was_called()
    await outside.answered.wait()
    await asyncio.sleep(60)
    outside.hang_up()
    record = await office.record()
    assert (record.id, record.disposition, record.talk_seconds) == (clicked.id, Disposition.ANSWERED, 60)


@flow("A number is clicked, early media, and codecs that differ")
async def test_a_clicked_number_with_early_media(office: Office) -> None:
    """The phone prefers PCMA, the trunk takes PCMU alone. The phone has agreed to hear both, but would go on to send
    PCMA: only then it gets a re-INVITE, with what the other side has. Nobody waits for that.
    """
    office.trunk.codecs = {0: "PCMU/8000"}
    office.trunk.does = Rings()
    anna = await office.phone("101")
    office.pbx.click2call(ACME, "101", MARIA, "1")
    outside = await office.trunk.was_called()
    await asyncio.sleep(2)
    office.trunk.do(outside.session.progress(183, office.trunk.now(), body=office.trunk.answer_to(outside.sdp)))
    await asyncio.sleep(5)
    outside.answer()
    await asyncio.sleep(60)
    assert b"PCMA" not in anna.calls[0].sdp
    assert (await ends(office, anna.calls[0])).disposition is Disposition.ANSWERED


@flow("A clicked number is busy")
async def test_a_clicked_number_is_busy(office: Office) -> None:
    """The page is told at once; the employee hears the tone, once, and is hung up."""
    office.trunk.does = Rejects(486, after=1.0)
    anna = await office.phone("101")
    office.pbx.click2call(ACME, "101", MARIA, "1")
    await (await anna.was_called()).over.wait()
    assert (await office.record()).disposition is Disposition.BUSY


@flow("Hung up in the page")
async def test_hung_up_in_the_page(office: Office) -> None:
    """CANCEL where it rings, BYE where somebody has picked up; a caller who still waits would get 487, or from outside
    603.
    """
    office.trunk.does = Rings()
    anna = await office.phone("101")
    clicked = office.pbx.click2call(ACME, "101", MARIA, "1")
    await (await office.trunk.was_called()).rang.wait()
    await asyncio.sleep(3)
    assert office.pbx.hang_up(ACME, clicked.id)
    record = await office.record()
    assert (record.disposition, record.reason) == (Disposition.ABANDONED, EndReason.CANCELLED)
    assert anna.calls[0].over.is_set()


@flow("A trunk that fails", names={SPARE.host: "server 2", THIRD.host: "next trunk", OPERATOR.host: "server 1"})
async def test_trunk_failover(office: Office) -> None:
    """The client's trunks are tried in this order: those that are up before those that are down, lower `priority`
    first, among equals by a lottery with `weight`; a trunk with `prefixes` takes only numbers that begin so, and one
    with `max_calls` calls (both ways) is passed over. A server that gives no response, cannot be reached, or says 503
    is followed by the trunk's next one (RFC 3263 §4.3), at most 4; a trunk whose servers are exhausted, or that says
    401, 407, 408, 5xx or a 3xx that leads nowhere, by the next trunk. Everything else (404, 480, 486, 6xx, …) is the
    last word, and so is any failure after the other side has rung. While another way is left, 5 s without any response
    are enough; the last one has the 32 s of timer B. A trunk that gave no answer comes after the others for 30 s. The
    call's explanation says each step.

    A trunk that registers is reached by the Service-Route of its registrar, where it gives one (RFC 3608).
    """
    at = {"trunk.test": (OPERATOR.host, SPARE.host)}
    office.dns.records |= {(name, "A"): hosts for name, hosts in at.items()}
    second = Phone("server-2", SERVER, seed=2).on(office.network, SPARE)
    third = Phone("next", SERVER, does=Answers(after=1.0), seed=3).on(office.network, THIRD)
    office.change(trunks=(
        Trunk(ACME, "operator", "trunk.test", caller_id=DID),
        Trunk(ACME, "next", THIRD.host, THIRD.port, priority=1, caller_id=DID),
    ))
    await office.pbx.settings_changed()
    await asyncio.sleep(1)
    office.trunk.does, second.does = Dead(), Rejects(503)
    anna = await office.phone("101")
    call = anna.call(MARIA)
    await call.answered.wait()
    record = await ends(office, call)
    assert record.trunk == "next"
    assert "operator: no response within 5 s" in record.why
    for phone in (second, third):
        phone.close()


@flow("A trunk sends a call on", names={SPARE.host: "server 2", OPERATOR.host: "server 1"})
async def test_a_trunk_redirects(office: Office) -> None:
    """The Contacts of its 3xx are tried in the order of q, five of them at the most, within the limits of outgoing
    calls: as they stand where they lead to the operator's own host, domain or networks, else by the user part through
    the same trunk, so that no credentials and no call leave it. A place that refuses is followed by the next one, but
    not one that has rung, nor a 6xx. 305 and 380, circles, and what makes no sense are faults of the trunk: the next
    trunk is tried, and at the end the caller gets 480.
    """
    office.trunk.does = Rejects(302, contact=f"<sip:{MOBILE}@10.0.1.2;user=phone>")
    second = Phone("server-2", SERVER, does=Answers(after=1.0), seed=2).on(office.network, SPARE)
    anna = await office.phone("101")
    call = anna.call(MARIA)
    await call.answered.wait()
    assert str(second.calls[0].session.invite.uri) == f"sip:{MOBILE}@10.0.1.2;user=phone"
    record = await ends(office, call)
    assert f"operator sends the call on to sip:{MOBILE}@10.0.1.2" in record.why
    second.close()


@flow("A phone that takes fewer codecs")
async def test_a_refused_offer(office: Office) -> None:
    """A phone or trunk that refuses the offer of an INVITE (488, 606, 415) is asked once more in the same call, with
    those codecs of the offer that the SDP in its refusal names, or with PCMA, PCMU and telephone-event where it has
    none. When nothing would be left, or nothing would change, the caller gets 488 (606) with `Warning: 305`. A
    re-INVITE that is refused is refused to who made it, and the two talk on as they were.
    """
    office.trunk.codecs = {9: "G722/8000", 8: "PCMA/8000"}
    boris = await office.phone("102", Rejects(488))
    call = office.trunk.call(DID, as_=IVAN)
    await boris.was_called()
    boris.does = Answers()
    await call.answered.wait()
    await asyncio.sleep(5)
    assert "102 answered 488: asked again with PCMA, telephone-event" in (await ends(office, call)).why


@flow("A call that a limit refuses")
async def test_a_limit(office: Office) -> None:
    """503 to whoever wants one more call outside than `outgoing_per_hour` or `max_calls` of the extension or the client
    lets it, 403 where a `limit` refuses the prefix; nothing is sent to any trunk. The explanation names the limit, and
    an alarm stands on the dashboard, in the metrics and in the log for an hour. What a phone transfers or sends on
    counts as well; emergency numbers never do.
    """
    office.change(extensions=tuple(replace(one, outgoing_per_hour=1) for one in office.books.directory.extensions))
    await office.pbx.settings_changed()
    anna = await office.phone("101")
    call = anna.call(MARIA)
    await call.answered.wait()
    await asyncio.sleep(60)
    await ends(office, call)
    second = anna.call(MARIA)
    await second.over.wait()
    record = await office.record(2)
    assert (second.status, record.reason) == (503, EndReason.LIMIT_REACHED)
    assert len(office.trunk.calls) == 1


# -- while two talk


@flow("Hold, three spellings")
async def test_hold(office: Office) -> None:
    """A re-INVITE or UPDATE with an offer is made to the other side as a re-INVITE; its answer, or its refusal, comes
    back. Hold is `a=sendonly`, `a=inactive`, or, of old, `c=IN IP4 0.0.0.0` (RFC 2543), which goes on as `a=sendonly`.
    Both ends at once: 491 and the timers of RFC 3261 §14.1.
    """
    boris = await office.phone("102")
    call = await answered(office)
    mine = boris.calls[0]
    for direction in ("sendonly", "sendrecv", "inactive", "sendrecv"):
        await mine.agree(direction)
        assert call.direction == direction
        await asyncio.sleep(5)
    old = boris.sdp("sendrecv").replace(b"c=IN IP4 10.0.2.102", b"c=IN IP4 0.0.0.0")
    boris.do(mine.session.reoffer(old, boris.now()))
    await asyncio.sleep(5)
    assert call.direction == "sendonly"
    await mine.agree("sendrecv")
    await ends(office, call)


@flow("Music on hold")
async def test_music_on_hold(office: Office) -> None:
    """With `music_on_hold` of the client, who is held hears the server's music until the other resumes: `inactive`,
    which would let it hear nothing, goes on as `sendonly`. Who holds by `sendonly` may send music of its own, and ours
    yields to that. When both hold, nobody hears anything.
    """
    office.change(clients=tuple(replace(one, music_on_hold="music") for one in office.books.directory.clients))
    await office.pbx.settings_changed()
    boris = await office.phone("102")
    call = await answered(office)
    mine = boris.calls[0]
    await mine.agree("inactive")
    assert (mine.direction, call.direction) == ("inactive", "sendonly")
    await asyncio.sleep(20)
    await mine.agree("sendrecv")
    assert (await ends(office, call)).talk_seconds == 25


@flow("An INVITE without an offer")
async def test_an_offerless_invite(office: Office) -> None:
    """It goes on without one; the phone's 200 holds the offer, our 200 passes it on, the caller's ACK brings the
    answer, our ACK takes it to the phone (RFC 3261 §13.2.1).
    """
    await office.phone("102")
    with_sdp, office.trunk.sdp = office.trunk.sdp, lambda direction: b""  # type: ignore[method-assign]
    call = office.trunk.call(DID, as_=IVAN)
    office.trunk.sdp = with_sdp                                           # type: ignore[method-assign]
    await call.answered.wait()
    await asyncio.sleep(60)
    assert (await ends(office, call)).disposition is Disposition.ANSWERED


@flow("A re-INVITE without an offer")
async def test_an_offerless_reinvite(office: Office) -> None:
    """Who asks for an offer in the middle of a call, as some phones do to resume, gets the other party's."""
    boris = await office.phone("102")
    call = await answered(office)
    boris.do(boris.calls[0].session.reoffer(b"", boris.now()))
    await asyncio.sleep(5)
    assert not call.over.is_set()
    await ends(office, call)


@flow("Keys by INFO, and by RTP events")
async def test_keys(office: Office) -> None:
    """A phone without telephone-event (RFC 4733) says its keys by INFO, and an outside that has it hears them as events
    in its RTP. The other way round, events are taken out of the audio and become INFOs, one after the other. Where
    both have events, or neither has, each passes as it is. Who refuses INFO for good (405, 415, 501), or does not
    answer, is sent no more of them.
    """
    boris = await office.phone("102")
    boris.has_events = False
    call = await answered(office)
    mine = boris.calls[0]
    mine.info("Signal=5\r\nDuration=160\r\n", "application/dtmf-relay")
    await asyncio.sleep(5)
    assert (mine.responses, call.requests) == ([200], [])
    office.network.remark("S", "S", "RTP events of 7 from the caller")
    assert isinstance(office.pbx.media, AnchoredPlane)
    office.pbx.media.session().hear(wire.Pressed(1, 0, "7", 160))
    await asyncio.sleep(5)
    assert [one.body for one in mine.requests] == [b"Signal=7\r\nDuration=160\r\n"]
    await ends(office, call)


@flow("A fax")
async def test_a_fax(office: Office) -> None:
    """T.38 takes the audio's place by re-INVITE (RFC 3264 §8.3), with the relay's address as ever, and audio takes its
    place again. What is not audio is not recorded.
    """
    boris = await office.phone("102")
    call = await answered(office)
    mine = boris.calls[0]
    mine.reoffer(boris.fax_sdp())
    await asyncio.sleep(30)
    assert b"m=image" in call.sdp
    await mine.agree("sendrecv")
    await asyncio.sleep(5)
    assert b"m=image" not in call.sdp
    await ends(office, call)


@flow("A fax that is refused")
async def test_a_refused_fax(office: Office) -> None:
    """Refused to who asked for it, with the same status; the two talk on, or send their fax as audio."""
    boris = await office.phone("102")
    call = await answered(office)
    office.trunk.refuses_offers = 488
    boris.calls[0].reoffer(boris.fax_sdp())
    await asyncio.sleep(5)
    assert b"m=image" not in call.sdp
    assert not call.over.is_set()
    await ends(office, call)


@flow("A refresh of the session timer", shows=("Session-Expires",))
async def test_the_session_timer(office: Office) -> None:
    """Between us and each side alone (RFC 4028): the other side neither sees it nor has to know of it. A side whose
    refreshes stay away is hung up.
    """
    office.trunk.close()
    timer = CoreConfig(session_timer=SessionTimerPolicy(expires=180, ask=True))
    operator = Phone("operator", SERVER, seed=9, config=timer).on(office.network, OPERATOR)
    await office.phone("102")
    call = operator.call(DID, as_=IVAN)
    await call.answered.wait()
    await asyncio.sleep(100)
    assert not call.over.is_set()
    await ends(office, call)
    operator.close()


@flow("Both sides offer at once")
async def test_glare(office: Office) -> None:
    """Each gets 491, and tries again after a time of its own, in which the two differ (RFC 3261 §14.1)."""
    boris = await office.phone("102")
    call = await answered(office)
    boris.calls[0].offer("sendonly")
    call.offer("sendonly")
    await asyncio.sleep(10)
    assert (await ends(office, call)).reason is EndReason.HUNG_UP


@flow("Messages that are lost")
async def test_losses(office: Office) -> None:
    """UDP promises nothing: requests are repeated until they are answered (RFC 3261 §17)."""
    boris = await office.phone("102")
    for start, host in ((b"INVITE", "10.0.2.102"), (b"SIP/2.0 200", OPERATOR.host), (b"BYE", "10.0.2.102")):
        office.network.lose(lambda data, flow, s=start, h=host: data.startswith(s) and flow.remote.host == h)
    call = await answered(office)
    record = await ends(office, call)
    await asyncio.sleep(2)
    assert (record.reason, len(boris.calls)) == (EndReason.HUNG_UP, 1)
    assert boris.calls[0].over.is_set()


@flow("An ACK that never comes")
async def test_a_lost_ack(office: Office) -> None:
    """The 200 is repeated for 32 s (RFC 3261 §13.3.1.4); then both sides get BYE, and the record says why."""
    boris = await office.phone("102")
    office.trunk.call(DID, as_=IVAN)
    mine = await boris.was_called()
    await mine.answered.wait()
    office.trunk.does = Dead()
    await asyncio.sleep(31.9)
    office.trunk.does = Answers()
    assert (await office.record()).reason is EndReason.NO_ACK
    assert mine.over.is_set()


# -- pickup, and lamps


@flow("A call is picked up by code")
async def test_pickup_by_code(office: Office) -> None:
    """`**102` takes what rings at 102, `**600` what has rung longest at a member of that group, `*8` at a colleague of
    one's own groups; inside calls and calls from outside, of one's own client. It stays one call with one record,
    whose employee is who picked it up. The phones that rang learn that it was completed elsewhere (RFC 3326), and
    count no missed call. Nothing rings there: 480; no such number: 404.
    """
    boris, vera = await office.phone("102", Rings()), await office.phone("103")
    call = office.trunk.call(DID, as_=IVAN)
    await call.rang.wait()
    await asyncio.sleep(4)
    mine = vera.call("**102")
    await mine.answered.wait()
    await asyncio.sleep(20)
    record = await ends(office, call)
    assert (record.extension, record.rang) == ("103", ("102",))
    assert not boris.calls[0].answered.is_set()


@flow("A call is picked up by the lamp", shows=("Expires",))
async def test_pickup_by_lamp(office: Office) -> None:
    """A phone that watches a colleague's (RFC 4235) is told the Call-ID and tags of what rings there, and dials the
    colleague with these in Replaces (RFC 3891 §7.1): INVITE to 102, which is answered instead of 102.
    """
    vera = await watching_phone(office, "103", host="10.0.2.103")
    lamp = vera.lamp("102")
    assert (await lamp.subscribe()).status == 200
    await office.phone("102", Rings())
    await asyncio.sleep(2)
    call = office.trunk.call(DID, as_=IVAN)
    await call.rang.wait()
    await asyncio.sleep(4)
    mine = vera.call("102", headers=[("Replaces", lamp.told[-1][0].replaces)])
    await mine.answered.wait()
    await asyncio.sleep(20)
    assert (await ends(office, call)).extension == "103"
    assert lamp.lit == []


@flow("The life of a lamp", shows=("Expires", "Subscription-State"))
async def test_a_lamp(office: Office) -> None:
    """SUBSCRIBE to an extension of the own client, with a password (RFC 6665): NOTIFY at once, and whenever something
    changes there, in full state and no more than once a second. With whom the colleague talks is told where
    `show_callers` lets it. 404: no such extension; 489: another event than *dialog*. A NOTIFY that is answered by 481
    or not at all ends the subscription; so do the end of the extension, and of our process.
    """
    anna = await watching_phone(office, "101", host="10.0.2.101")
    lamp = anna.lamp("102")
    assert (await lamp.subscribe(600)).status == 200
    await office.phone("102", Answers(after=4.0))
    await asyncio.sleep(2)
    call = await answered(office)
    await ends(office, call)
    await asyncio.sleep(300)
    assert (await lamp.subscribe(600)).status == 200
    await asyncio.sleep(60)
    assert (await lamp.subscribe(0)).status == 200
    await asyncio.sleep(2)
    assert lamp.states == [[], ["early"], ["confirmed"], []]


# -- transfer


@flow("Blind transfer", shows=("Referred-By",))
async def test_a_blind_transfer(office: Office) -> None:
    """REFER ends here: the other party never sees one, and the call stays one call, with one record, one recording and
    one note in the CRM. Only our extensions may send it (a trunk gets 403, a REFER outside a dialog 405), and Refer-To
    is read as if that extension had dialled it.

    The target makes the offer and the remaining party answers it (RFC 3725 §4.1), so that both speak what both know.
    Meanwhile the two are as they were: on hold, mostly. Who talks last owns the call, in the books and in the CRM; an
    outside target leaves it to who talked before. A call between colleagues of whom one is transferred outside is an
    outside call from then on.

    | what happens | then |
    |---|---|
    | no such number, busy, declined, nobody answers, no common codec | NOTIFY with that status; the two talk on |
    | … and the transferor has hung up already | its extension is called back; nobody there either: the call ends |
    | the remaining party hangs up | the target is cancelled, NOTIFY 487, BYE to the transferor |
    | the transferor hangs up right after the 202 | nothing: it goes on without NOTIFYs (deviation from RFC 5057 §4) |
    | the transferor does not hang up after success | it gets BYE after 4 s |
    | a second REFER meanwhile | 491 |
    | no or two Refer-To, another method, a Replaces or Referred-By that makes no sense | 400 |
    | a NOTIFY is refused, with 481 as well, or not answered | no more NOTIFYs; the call and the transfer go on |
    | `Refer-Sub: false` (RFC 4488) | 202 with the same; no NOTIFY |
    """
    boris = await office.phone("102")
    await office.phone("103")
    call = await answered(office)
    boris.calls[0].refer("<sip:103@10.0.0.1>", ("Referred-By", "<sip:102@10.0.0.1>"))
    await asyncio.sleep(2.5)
    boris.calls[0].hang_up()
    await asyncio.sleep(30)
    record = await ends(office, call)
    assert (record.extension, record.ended_by) == ("103", EndedBy.CALLER)


@flow("Blind transfer to who is busy")
async def test_a_blind_transfer_that_fails(office: Office) -> None:
    """The two talk on. That a target does not exist is told by NOTIFY as well, not by a 404 to the REFER: that would
    end the call (RFC 5057 §5.1).
    """
    boris = await office.phone("102")
    await office.phone("103", Rejects(486))
    call = await answered(office)
    mine = boris.calls[0]
    await mine.agree("sendonly")
    mine.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(5)
    assert mine.notified[-1][0] == "486 Busy Here"
    await mine.agree("sendrecv")
    assert (await ends(office, call)).extension == "102"


@flow("Blind transfer to an outside number")
async def test_a_blind_transfer_outside(office: Office) -> None:
    """Many operators' gateways take no INVITE without an offer: theirs has one that is made for the party who remains,
    from what that one has said, and the answer goes to that one by re-INVITE. From is the office's number, and the
    call takes a second line of the trunk. The record stays with the extension that transferred.
    """
    boris = await office.phone("102")
    call = await answered(office)
    mine = boris.calls[0]
    await mine.agree("sendonly")
    mine.refer(f"<sip:{MARIA}@10.0.0.1>")
    await mine.over.wait()
    await asyncio.sleep(20)
    outside = office.trunk.calls[1]
    assert b"m=audio" in outside.session.offer
    assert (await ends(office, call)).extension == "102"
    assert outside.over.is_set()


@flow("Transferred on the live page")
async def test_transferred_on_the_live_page(office: Office) -> None:
    """As if the employee's phone had sent a REFER, by the same rules, but that it hears nothing of it: when somebody
    answers at the target, it gets BYE. When nobody does, the two talk on.

    It is the phone of who talks in the office that transfers; of two colleagues, of who was called. What can be no
    target (nobody there is registered, a limit forbids the number, it is no number) is said on the page at once.
    """
    await office.phone("102")
    await office.phone("103")
    call = await answered(office)
    (live,) = office.pbx.live_calls()
    assert office.pbx.transfer(ACME, live.id, "103", "operator").transfer is Transfer.ACCEPTED
    await asyncio.sleep(30)
    record = await ends(office, call)
    assert (record.extension, record.ended_by) == ("103", EndedBy.CALLER)


@flow("Attended transfer")
async def test_an_attended_transfer(office: Office) -> None:
    """REFER whose Refer-To has a Replaces (RFC 3891) that names the transferor's other call, as the phone sees it. The
    one party is asked for an offer by a re-INVITE without SDP, the other answers it.

    The call with the REFER is hung up by its phone, or by us after 4 s; the one that Replaces names gets BYE from us
    (RFC 3891 §3). The outside call goes on, whichever of the two the REFER came in, and the consultation ends as
    *transferred*; of two outside calls the one with the REFER goes on, and each has its record and its note. The
    second call only rings yet: it is withdrawn (487), and its number is called for the other party as in a blind
    transfer. Unknown dialog: NOTIFY 481; somebody else's: 403; one that is being transferred itself: 491. When the two
    have no codec in common, the first call goes on (NOTIFY 488) and the second one is over.
    """
    boris, vera = await office.phone("102"), await office.phone("103")
    call = await answered(office)
    first = boris.calls[0]
    await first.agree("sendonly")
    second = boris.call("103")
    await second.answered.wait()
    await asyncio.sleep(5)
    first.refer_to(second)
    await asyncio.sleep(0.5)
    first.hang_up()
    await asyncio.sleep(10)
    assert not vera.calls[0].over.is_set()
    assert (await ends(office, call, 2)).extension == "103"


@flow("Attended transfer before the other answers")
async def test_a_transfer_while_it_rings(office: Office) -> None:
    """The phone that rings is called again, for the other party: this one is a blind transfer after all."""
    boris = await office.phone("102")
    vera = await office.phone("103", Rings())
    call = await answered(office)
    first = boris.calls[0]
    await first.agree("sendonly")
    second = boris.call("103")
    await second.rang.wait()
    await asyncio.sleep(3)
    vera.does = Answers()
    first.refer_to(second)
    await asyncio.sleep(2.5)
    first.hang_up()
    await asyncio.sleep(10)
    assert (second.status, vera.calls[1].caller) == (487, IVAN)
    assert (await ends(office, call, 2)).extension == "103"


@flow("A phone takes over a call", names=DESK_AND_MOBILE)
async def test_invite_with_replaces(office: Office) -> None:
    """INVITE with Replaces from a phone of the same extension, as from the desk to the mobile one: its offer is made
    to the other party by re-INVITE, it gets the answer in the 200, and the phone that had the call gets BYE. 481: no
    such dialog, or one that only rings; 403: another extension's; 486: `early-only`; 603: it has ended; 488: without
    an offer or a common codec. The call goes on untouched in each of these.
    """
    desk = await office.phone("102")
    call = await answered(office)
    mobile = await office.phone("102", host="10.0.3.1")
    taken = mobile.call("102", headers=[("Replaces", desk.calls[0].replaces)])
    await taken.answered.wait()
    await asyncio.sleep(5)
    assert desk.calls[0].over.is_set()
    assert (await ends(office, call)).talk_seconds == 10


# -- beside the calls


@flow("A phone registers", hides=("OPTIONS",), shows=("Expires",))
async def test_a_registration(office: Office) -> None:
    """Digest, by each hash that the extension has (RFC 8760). Signing off is `Expires: 0`."""
    anna = await office.phone("101")
    await asyncio.sleep(1800)
    assert (await anna.register()).status == 200
    await asyncio.sleep(60)
    assert (await anna.register(expires=0)).status == 200


@flow("We register at a trunk", hides=("OPTIONS",), shows=("Expires",))
async def test_our_registration(office: Office) -> None:
    """Again before it expires, and by `Expires: 0` when the trunk goes. While it fails the trunk counts as down."""
    trunk = replace(office.books.directory.trunks[0], register=True, user="account", password="secret")
    office.change(trunks=(trunk,))
    await office.pbx.settings_changed()
    await asyncio.sleep(4000)
    office.change(trunks=())
    await office.pbx.settings_changed()
    await asyncio.sleep(1)


@flow("A stranger", hides=(), names={STRANGER.host: "stranger"})
async def test_a_stranger(office: Office) -> None:
    """A ping of nobody's gets no answer. A call gets a challenge, statelessly: an ACK, and whatever else follows, is
    nobody's. A wrong password is refused, slower each time, and past the limits there is silence ([decision
    0005](decisions/0005-bans-are-the-throttles-own-counts.md)).
    """
    office.change(trunks=())
    await office.pbx.settings_changed()
    stranger = Phone("101", SERVER, password="guess", seed=5).on(office.network, STRANGER)
    response, _ = await stranger._ask("OPTIONS", (), "scan")
    assert response.status == 408
    call = stranger.call("102")
    await call.over.wait()
    assert call.status in (401, 403)
    stranger.close()


@flow("The daemon dies, and is started again", shows=("CSeq",))
async def test_after_a_crash(office: Office) -> None:
    """A call that has lasted a second is written down for the next start, with a sign of life every 3 s. The next start
    gives its record the reason *restarted*, ended when it was last alive, tells the CRM, and ends a talk's dialogs.
    The BYE has the dialog's tags and route set, a CSeq far above what the dialog has used (RFC 3261 §12.2.2), and
    `Reason: SIP;cause=503;text="Restarted"`.
    """
    boris = await office.phone("102")
    async with asyncio.TaskGroup() as tasks:
        saving = tasks.create_task(office.standing.run())
        call = await answered(office)
        await asyncio.sleep(5)
        office.network.remark("S", "S", "kill -9; and the next start")
        async with next_process(office) as agent:
            await Undertaker(office.books, office.books, agent, None, lambda: None).run()
            await asyncio.sleep(1)
        saving.cancel()
    assert call.over.is_set()
    assert boris.calls[0].over.is_set()
    assert [record.reason for record in office.books.records] == [EndReason.RESTARTED]


@flow("The daemon is stopped")
async def test_a_drain(office: Office) -> None:
    """At SIGTERM: new calls get 503, and those from outside a record; those that are up have `server.drain_seconds`.
    What is up then is hung up and recorded so.
    """
    await office.phone("102")
    call = await answered(office)
    draining = asyncio.get_running_loop().create_task(office.pbx.drain(30))
    await asyncio.sleep(10)
    refused = office.trunk.call(DID, as_="+79167654321")
    await refused.over.wait()
    await draining
    await asyncio.sleep(1)
    assert refused.status == 503
    assert call.over.is_set()
    assert [record.reason for record in office.books.records][-1] is EndReason.SHUTDOWN


def test_the_file_has_these_flows_in_this_order_and_no_others() -> None:
    assert_written("\n".join(each.title for each in FLOWS), "\n".join(sections()))
    assert_written(HEAD, FILE.read_text("utf-8")[: len(HEAD)])
