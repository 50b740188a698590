"""Calls from the first INVITE to their end, each as a ladder (`>` from the caller, `<` from the callee)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from b2bua.sip.core import CoreConfig
from b2bua.sip.effects import (
    AnswerConfirmed,
    Answered,
    Confirmed,
    DialogRequest,
    DialogResponse,
    Effect,
    EndCause,
    Ended,
    IncomingInvite,
    OfferAnswered,
    OfferReceived,
    OfferRefused,
    Party,
    Provisional,
    Rejected,
    Transmit,
    Transport,
)
from b2bua.sip.grammar import ProtocolMisuse
from b2bua.sip.invite_session import MAX_OWED, InviteSession
from b2bua.sip.message import Request, Response
from b2bua.sip.reoffers import MAX_REFRESHES
from b2bua.sip.session_timer import SessionTimerPolicy
from b2bua.sip.stack import State
from b2bua.sip.uac_invite import MAX_BRANCHES
from tests.support.back_to_back import ANSWER, OFFER, End, Message, Wire, name_of

ANSWERED = ["> INVITE", "< 100 INVITE", "< 180 INVITE", "< 200 INVITE", "> ACK"]


def rings(wire: Wire, **progress: object) -> InviteSession:
    """The callee's session, after a 180 or what is asked for."""
    wire.settle()
    session = wire.callee.last(IncomingInvite).session
    wire.do(wire.callee, session.progress(180, wire.now, **progress))     # type: ignore[arg-type]
    return session


def is_up(wire: Wire) -> tuple[InviteSession, InviteSession]:
    """Both ends of a call that stands."""
    caller = wire.call()
    callee = rings(wire)
    wire.do(wire.callee, callee.accept(wire.now, body=ANSWER))
    wire.settle()
    assert (caller.state, callee.state) == (State.CONFIRMED, State.CONFIRMED)
    wire.ladder.clear()
    return caller, callee


def losing(*names: str) -> Callable[[Message], list[float]]:
    return lambda message: [] if name_of(message) in names else [0.001]


def ends(end: End) -> list[tuple[Party, EndCause]]:
    return [(event.by, event.cause) for event in end.events if isinstance(event, Ended)]


def kinds(effects: Iterable[Effect]) -> list[str]:
    return [name_of(effect.message) if isinstance(effect, Transmit) else type(effect).__name__ for effect in effects]


# -- set-up and answer ---------------------------------------------------------------------------------------------


def test_a_call_is_set_up_and_ended() -> None:
    wire = Wire()
    caller = wire.call()
    callee = rings(wire)
    wire.do(wire.callee, callee.accept(wire.now, body=ANSWER))
    wire.settle()
    assert wire.ladder == ANSWERED
    assert wire.caller.names() == ["Provisional", "Answered"]
    assert wire.caller.last(Answered).response.body == ANSWER
    assert wire.callee.names() == ["IncomingInvite", "Confirmed"]
    wire.do(wire.caller, caller.hang_up(wire.now))
    wire.settle()
    assert wire.ladder[5:] == ["> BYE", "< 200 BYE"]
    assert (ends(wire.caller), ends(wire.callee)) == ([], [(Party.REMOTE, EndCause.BYE)])
    wire.run(40)
    assert wire.is_empty


def test_an_offerless_invite_gets_the_offer_in_the_200_and_the_answer_in_the_ack() -> None:
    wire = Wire()
    caller = wire.call(b"")
    callee = rings(wire)
    wire.do(wire.callee, callee.accept(wire.now, body=OFFER))
    wire.settle()
    assert wire.caller.last(Answered).wants_answer
    assert wire.ladder[-1] == "< 200 INVITE"
    wire.do(wire.caller, caller.ack(ANSWER, wire.now))
    wire.settle()
    assert wire.callee.last(Confirmed).body == ANSWER
    assert callee.dialog is not None
    assert callee.dialog.offers.settled


def test_a_200_is_repeated_until_its_ack_and_given_up_after_64_t1() -> None:
    wire = Wire()
    wire.call()
    callee = rings(wire)
    sent: list[float] = []

    def fate(message: Message) -> list[float]:
        if name_of(message) == "200 INVITE":
            sent.append(round(wire.now - start, 2))
        return [] if isinstance(message, Request) and message.method == "ACK" else [0.001]

    wire.fate, start = fate, wire.now
    wire.do(wire.callee, callee.accept(wire.now, body=ANSWER))
    wire.run(start + 40)
    assert sent == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert ends(wire.callee) == [(Party.LOCAL, EndCause.NO_ACK)]
    bye = next(message for message in wire.sent if name_of(message) == "BYE")
    assert "cause=408" in (bye.headers.get("Reason") or "")
    assert wire.ladder.count("> ACK") == len(sent)
    assert ends(wire.caller) == [(Party.REMOTE, EndCause.BYE)]


def test_a_repeated_200_gets_the_same_ack_and_nothing_else_happens() -> None:
    wire = Wire()
    caller, _ = is_up(wire)
    ok = next(message for message in wire.sent if name_of(message) == "200 INVITE")
    ack = next(message for message in wire.sent if name_of(message) == "ACK")
    events = len(wire.caller.events)
    wire.fate = losing("ACK")
    wire.inject(wire.caller, bytes(ok))
    assert wire.sent[-1] is ack
    assert len(wire.caller.events) == events
    assert caller.state is State.CONFIRMED


@pytest.mark.parametrize("body", [OFFER, b""])
def test_a_200_without_the_session_description_it_owes_is_acknowledged_and_ended(body: bytes) -> None:
    wire = Wire()
    wire.call(body)
    rings(wire)
    invite = wire.sent[0]
    assert isinstance(invite, Request)
    wire.settle()
    wire.ladder.clear()
    wire.inject(wire.caller, bytes(invite.response(200, to_tag="gw", contact="<sip:gw@10.0.0.2>")))
    assert wire.ladder == ["> ACK", "> BYE"]
    assert ends(wire.caller) == [(Party.LOCAL, EndCause.PROTOCOL_ERROR)]


def test_a_gateway_may_leave_the_answer_in_its_unreliable_183() -> None:
    wire = Wire()
    caller = wire.call()
    invite = wire.sent[0]
    assert isinstance(invite, Request)
    wire.fate = losing("INVITE")
    wire.inject(wire.caller, bytes(invite.response(183, to_tag="gw", contact="<sip:gw@10.0.0.2>", body=ANSWER)))
    wire.inject(wire.caller, bytes(invite.response(200, to_tag="gw", contact="<sip:gw@10.0.0.2>")))
    assert wire.caller.names() == ["Provisional", "Answered"]
    assert caller.state is State.CONFIRMED


def test_an_ack_without_the_answer_it_owes_ends_the_call() -> None:
    wire = Wire()
    caller = wire.call(b"")
    callee = rings(wire)
    wire.do(wire.callee, callee.accept(wire.now, body=OFFER))
    wire.settle()
    wire.do(wire.caller, caller.hang_up(wire.now))      # ACKs without a body, as there is none
    wire.settle()
    assert len(ends(wire.callee)) == 1
    wire.run(wire.now + 40)
    assert wire.is_empty


def test_the_invite_can_be_read_as_long_as_the_session_is_held() -> None:
    wire = Wire()
    caller, callee = is_up(wire)
    assert caller.invite.call_id == callee.invite.call_id == caller.call_id
    assert callee.offer == OFFER
    assert callee.remote_supports("timer")
    assert caller.remote_allows("UPDATE")


def test_a_ringing_phone_says_so_every_minute() -> None:
    wire = Wire()
    wire.call()
    rings(wire)
    wire.run(wire.now + 185)
    assert wire.ladder == ["> INVITE", "< 100 INVITE", *["< 180 INVITE"] * 4]
    assert wire.caller.names() == ["Provisional"] * 4


@pytest.mark.parametrize("status", [302, 401, 404, 486, 503, 603])
def test_a_refusal_is_told_once_and_is_the_end(status: int) -> None:
    wire = Wire()
    caller = wire.call()
    wire.settle()
    callee = wire.callee.last(IncomingInvite).session
    wire.do(wire.callee, callee.reject(status, wire.now, reason="So", headers=[("Contact", "<sip:other@10.0.0.3>")]))
    wire.settle()
    assert wire.ladder[2:] == [f"< {status} INVITE", "> ACK"]
    rejected = wire.caller.last(Rejected).response
    assert (rejected.status, rejected.reason) == (status, "So")
    assert (ends(wire.caller), ends(wire.callee)) == ([], [])
    assert caller.state is State.ENDED
    wire.run(40)
    assert wire.is_empty


def test_a_call_that_nobody_answers_at_all_times_out() -> None:
    wire = Wire()
    wire.fate = lambda message: []
    wire.call()
    wire.run(40)
    assert wire.ladder == ["> INVITE"] * 7
    assert ends(wire.caller) == [(Party.LOCAL, EndCause.TIMED_OUT)]
    assert wire.is_empty


# -- hanging up ----------------------------------------------------------------------------------------------------


def test_hanging_up_before_any_response_holds_the_cancel_until_one_comes() -> None:
    wire = Wire()
    caller = wire.call()
    wire.do(wire.caller, caller.hang_up(wire.now))
    assert wire.ladder == ["> INVITE"]
    wire.settle()
    assert sorted(wire.ladder[2:]) == ["< 200 CANCEL", "< 487 INVITE", "> ACK", "> CANCEL"]
    assert ends(wire.callee) == [(Party.REMOTE, EndCause.CANCELLED)]
    assert wire.caller.events == []
    wire.run(40)
    assert wire.is_empty


def test_hanging_up_while_it_rings_cancels() -> None:
    wire = Wire()
    caller = wire.call()
    rings(wire)
    wire.settle()
    wire.ladder.clear()
    wire.do(wire.caller, caller.hang_up(wire.now, headers=[("Reason", "SIP;cause=200")]))
    assert caller.state is State.ENDING
    wire.settle()
    assert sorted(wire.ladder) == ["< 200 CANCEL", "< 487 INVITE", "> ACK", "> CANCEL"]
    cancel = wire.callee.last(Ended).message
    assert cancel is not None
    assert cancel.headers.get("Reason") == "SIP;cause=200"
    assert caller.state is State.ENDED
    assert wire.caller.names() == ["Provisional"]


def test_a_200_that_crosses_the_cancel_is_acknowledged_and_ended() -> None:
    wire = Wire()
    caller = wire.call()
    callee = rings(wire)
    wire.settle()
    wire.do(wire.callee, callee.accept(wire.now, body=ANSWER))
    wire.do(wire.caller, caller.hang_up(wire.now))
    wire.settle()
    assert wire.ladder[3:] == ["< 200 INVITE", "> CANCEL", "> ACK", "> BYE", "< 200 CANCEL", "< 200 BYE"]
    assert wire.caller.names() == ["Provisional"]
    assert ends(wire.callee) == [(Party.REMOTE, EndCause.BYE)]
    wire.run(40)
    assert wire.is_empty


def test_a_callee_that_hangs_up_before_the_ack_says_bye_after_it() -> None:
    wire = Wire()
    wire.call()
    callee = rings(wire)
    wire.fate = losing("ACK")
    wire.do(wire.callee, callee.accept(wire.now, body=ANSWER))
    wire.settle()
    wire.do(wire.callee, callee.hang_up(wire.now, headers=[("Reason", "Q.850;cause=16")]))
    assert (callee.state, "< BYE" in wire.ladder) == (State.ENDING, False)
    wire.fate = losing()
    wire.run(wire.now + 2)
    assert wire.ladder[-4:] == ["< 200 INVITE", "> ACK", "< BYE", "> 200 BYE"]
    bye = wire.caller.last(Ended).message
    assert bye is not None
    assert bye.headers.get("Reason") == "Q.850;cause=16"
    assert "Confirmed" not in wire.callee.names()
    wire.run(wire.now + 40)
    assert wire.is_empty


def test_a_callee_that_hangs_up_before_it_answered_refuses() -> None:
    wire = Wire()
    wire.call()
    callee = rings(wire)
    wire.do(wire.callee, callee.hang_up(wire.now))
    wire.settle()
    assert wire.caller.last(Rejected).response.status == 480
    assert ends(wire.callee) == []


@pytest.mark.parametrize("who", ["caller", "callee"])
def test_either_side_ends_a_call_that_is_up_and_may_say_so_twice(who: str) -> None:
    wire = Wire()
    sessions = dict(zip(("caller", "callee"), is_up(wire), strict=True))
    end = wire.caller if who == "caller" else wire.callee
    for _ in range(2):
        wire.do(end, sessions[who].hang_up(wire.now))
    wire.settle()
    assert [step[2:] for step in wire.ladder] == ["BYE", "200 BYE"]


def test_both_sides_may_say_bye_at_once() -> None:
    wire = Wire()
    caller, callee = is_up(wire)
    wire.do(wire.caller, caller.hang_up(wire.now))
    wire.do(wire.callee, callee.hang_up(wire.now))
    wire.settle()
    assert wire.ladder == ["> BYE", "< BYE", "< 200 BYE", "> 200 BYE"]
    assert (ends(wire.caller), ends(wire.callee)) == ([], [])
    wire.run(40)
    assert wire.is_empty


def test_a_bye_that_crosses_a_re_invite_ends_both() -> None:
    wire = Wire()
    caller, callee = is_up(wire)
    wire.do(wire.caller, caller.reoffer(OFFER, wire.now))
    wire.do(wire.callee, callee.hang_up(wire.now))
    wire.settle()
    assert "< 481 INVITE" in wire.ladder
    assert "> 200 BYE" in wire.ladder
    assert ends(wire.caller) == [(Party.REMOTE, EndCause.BYE)]
    wire.run(40)
    assert wire.is_empty


def test_a_bye_answers_the_re_invite_that_waits() -> None:
    wire = Wire()
    caller, callee = is_up(wire)
    wire.do(wire.caller, caller.reoffer(OFFER, wire.now))
    wire.settle()
    wire.do(wire.callee, callee.hang_up(wire.now))
    wire.settle()
    assert wire.ladder[:4] == ["> INVITE", "< 100 INVITE", "< 487 INVITE", "< BYE"]
    wire.run(40)
    assert wire.is_empty


def test_hanging_up_withdraws_a_re_invite_of_ours() -> None:
    wire = Wire()
    caller, _ = is_up(wire)
    wire.do(wire.caller, caller.reoffer(OFFER, wire.now))
    wire.settle()
    wire.do(wire.caller, caller.hang_up(wire.now))
    wire.settle()
    assert wire.ladder[2:4] == ["> CANCEL", "> BYE"]
    wire.run(40)
    assert wire.is_empty


def test_the_callers_bye_ends_an_early_dialog_too() -> None:
    wire = Wire()
    caller = wire.call()
    rings(wire)
    wire.settle()
    dialog = caller.current_dialog()
    assert dialog is not None
    wire.ladder.clear()
    bye = dialog.request("BYE", "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKbye")
    wire.inject(wire.callee, bytes(bye))
    assert wire.ladder == ["< 200 BYE", "< 487 INVITE"]
    assert ends(wire.callee) == [(Party.REMOTE, EndCause.BYE)]


COMMANDS: dict[str, Callable[[InviteSession, Request, Response], list[Effect]]] = {
    "progress": lambda session, request, response: session.progress(180, 9.0),
    "accept": lambda session, request, response: session.accept(9.0, body=ANSWER),
    "reject": lambda session, request, response: session.reject(486, 9.0),
    "ack": lambda session, request, response: session.ack(ANSWER, 9.0),
    "prack": lambda session, request, response: session.prack(response, b"", 9.0),
    "hang_up": lambda session, request, response: session.hang_up(9.0),
    "reoffer": lambda session, request, response: session.reoffer(OFFER, 9.0),
    "update": lambda session, request, response: session.update(OFFER, 9.0),
    "accept_offer": lambda session, request, response: session.accept_offer(request, ANSWER, 9.0),
    "refuse_offer": lambda session, request, response: session.refuse_offer(request, 488, 9.0),
    "request": lambda session, request, response: session.request("INFO", 9.0),
    "respond": lambda session, request, response: session.respond(request, 200, 9.0),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("role", ["caller", "callee"])
def test_nothing_comes_of_a_command_after_the_end(role: str, command: str) -> None:
    wire = Wire()
    sessions = dict(zip(("caller", "callee"), is_up(wire), strict=True))
    wire.do(wire.callee, sessions["callee"].hang_up(wire.now))
    wire.settle()
    invite, response = wire.sent[0], wire.sent[1]
    assert isinstance(invite, Request)
    assert isinstance(response, Response)
    assert COMMANDS[command](sessions[role], invite, response) == []


@pytest.mark.parametrize(("command", "caller_ringing", "callee_ringing", "caller_up", "callee_up"), [
    ("progress", None, ["180 INVITE"], None, None),
    ("accept", None, ["200 INVITE"], None, None),
    ("reject", None, ["486 INVITE"], None, None),
    ("ack", None, None, None, None),
    ("prack", None, [], [], []),
    ("hang_up", ["CANCEL"], ["480 INVITE"], ["BYE"], ["BYE"]),
    ("reoffer", None, None, ["INVITE"], ["INVITE"]),
    ("update", ["OfferRefused"], ["OfferRefused"], ["UPDATE"], ["UPDATE"]),
    ("accept_offer", [], [], [], []),
    ("refuse_offer", [], [], [], []),
    ("request", ["INFO"], ["INFO"], ["INFO"], ["INFO"]),
    ("respond", [], [], [], []),
])
def test_what_each_command_causes_in_each_state(
    command: str,
    caller_ringing: list[str] | None,
    callee_ringing: list[str] | None,
    caller_up: list[str] | None,
    callee_up: list[str] | None,
) -> None:
    for up, expected in ((False, (caller_ringing, callee_ringing)), (True, (caller_up, callee_up))):
        for role in (0, 1):
            wire = Wire()
            sessions = is_up(wire) if up else (wire.call(), rings(wire))
            wire.settle()
            invite, response = wire.sent[0], wire.sent[1]
            assert isinstance(invite, Request)
            assert isinstance(response, Response)
            if (outcome := expected[role]) is None:
                with pytest.raises(ProtocolMisuse):
                    COMMANDS[command](sessions[role], invite, response)
            else:
                assert kinds(COMMANDS[command](sessions[role], invite, response)) == outcome


# -- several branches ----------------------------------------------------------------------------------------------


def forked() -> tuple[Wire, InviteSession, Request]:
    """A call whose callee never answers; responses come by hand."""
    wire = Wire()
    wire.fate = lambda message: []
    session = wire.call()
    invite = wire.sent[0]
    assert isinstance(invite, Request)
    return wire, session, invite


def of_branch(invite: Request, status: int, tag: str, host: str, body: bytes = b"") -> bytes:
    return bytes(invite.response(status, to_tag=tag, contact=f"<sip:bob@{host}>", body=body))


def test_each_branch_has_an_early_dialog_and_the_first_200_wins() -> None:
    wire, session, invite = forked()
    for tag, host in (("t1", "10.0.1.1"), ("t2", "10.0.1.2")):
        wire.inject(wire.caller, of_branch(invite, 180, tag, host))
    assert [event.response.to_tag for event in wire.caller.events if isinstance(event, Provisional)] == ["t1", "t2"]
    assert wire.caller.core.find(session.call_id, session.id, "t1") is session
    wire.inject(wire.caller, of_branch(invite, 200, "t1", "10.0.1.1", ANSWER))
    assert wire.caller.core.find(session.call_id, session.id, "t2") is None
    assert wire.ladder == ["> INVITE", "> ACK"]
    wire.inject(wire.caller, of_branch(invite, 180, "t3", "10.0.1.3"))
    assert wire.caller.names() == ["Provisional", "Provisional", "Answered"]


def test_the_200_of_another_branch_is_acknowledged_and_ended_unseen() -> None:
    wire, session, invite = forked()
    wire.inject(wire.caller, of_branch(invite, 200, "t1", "10.0.1.1", ANSWER))
    wire.inject(wire.caller, of_branch(invite, 200, "t2", "10.0.1.2", ANSWER))
    wire.inject(wire.caller, of_branch(invite, 200, "t2", "10.0.1.2", ANSWER))
    assert wire.ladder == ["> INVITE", "> ACK", "> ACK", "> BYE", "> ACK"]
    assert str(wire.sent[3].headers.get("To")).endswith("tag=t2")       # type: ignore[union-attr]
    assert wire.caller.names() == ["Answered"]
    assert session.state is State.CONFIRMED


def test_a_forking_proxy_cannot_make_us_remember_without_end() -> None:
    wire, session, invite = forked()
    for number in range(100):
        wire.inject(wire.caller, of_branch(invite, 180, f"e{number}", "10.0.1.1"))
    for number in range(100):
        wire.inject(wire.caller, of_branch(invite, 200, f"a{number}", "10.0.1.1", ANSWER))
    assert wire.ladder.count("> BYE") == MAX_BRANCHES - 1
    assert wire.caller.core.counters.too_many_branches == 100 - MAX_BRANCHES + 100 - MAX_BRANCHES
    assert session.state is State.CONFIRMED


def test_a_2xx_replaces_the_route_of_its_18x() -> None:
    wire, session, invite = forked()
    invite.headers._sealed = False                      # as if a proxy had put it in on the way
    invite.headers.add("Record-Route", "<sip:10.0.0.2;lr>")
    wire.inject(wire.caller, of_branch(invite, 180, "t1", "10.0.1.1"))
    early = session.current_dialog()
    assert early is not None
    assert early.routes == ("<sip:10.0.0.2;lr>",)
    invite.headers._sealed = False
    invite.headers.remove("Record-Route")
    wire.inject(wire.caller, of_branch(invite, 200, "t1", "10.0.0.2", ANSWER))
    assert session.dialog is early
    assert early.routes == ()


def test_a_18x_without_a_tag_is_told_and_makes_no_dialog() -> None:
    wire, session, invite = forked()
    wire.inject(wire.caller, bytes(invite.response(180)))
    assert wire.caller.names() == ["Provisional"]
    assert session.current_dialog() is None


# -- reliable provisional responses --------------------------------------------------------------------------------


def test_a_reliable_183_is_pracked_and_the_200_waits_for_that() -> None:
    wire = Wire()
    caller = wire.call()
    wire.settle()
    callee = wire.callee.last(IncomingInvite).session
    wire.do(wire.callee, callee.progress(183, wire.now, body=ANSWER, reliable=True))
    wire.do(wire.callee, callee.accept(wire.now, body=ANSWER))
    assert wire.ladder[-1] == "< 183 INVITE"
    wire.settle()
    assert wire.ladder[3:] == ["> PRACK", "< 200 PRACK", "< 200 INVITE", "> ACK"]
    assert wire.caller.last(Answered).response.body == b""          # the 183 had the answer
    assert caller.state is State.CONFIRMED


def test_reliable_responses_are_sent_one_at_a_time_and_numbered() -> None:
    wire = Wire()
    wire.call()
    wire.settle()
    callee = wire.callee.last(IncomingInvite).session
    for status in (180, 181, 182):
        wire.do(wire.callee, callee.progress(status, wire.now, reliable=True))
    assert wire.ladder[2:] == ["< 180 INVITE"]
    wire.settle()
    assert [step for step in wire.ladder if step.startswith("< 18")] == ["< 180 INVITE", "< 181 INVITE", "< 182 INVITE"]
    numbers = [message.rseq for message in wire.sent if message.rseq is not None]
    assert [number - numbers[0] for number in numbers] == [0, 1, 2]


def test_a_reliable_response_is_repeated_and_given_up_with_504_after_64_t1() -> None:
    wire = Wire()
    wire.call()
    wire.settle()
    callee = wire.callee.last(IncomingInvite).session
    wire.fate = losing("PRACK")
    start = wire.now
    wire.do(wire.callee, callee.progress(183, wire.now, reliable=True))
    wire.run(start + 31.9)
    assert wire.ladder.count("< 183 INVITE") == 7
    assert wire.caller.names() == ["Provisional"]
    wire.run(start + 33)
    assert wire.caller.last(Rejected).response.status == 504
    assert ends(wire.callee) == [(Party.LOCAL, EndCause.TIMED_OUT)]
    wire.run(120)
    assert wire.is_empty


def test_a_caller_that_demands_100rel_gets_every_18x_reliably() -> None:
    wire = Wire()
    wire.call(headers=(("Require", "100rel"),))
    rings(wire)
    wire.settle()
    assert wire.ladder[2:] == ["< 180 INVITE", "> PRACK", "< 200 PRACK"]


def test_by_default_and_without_support_an_18x_is_a_plain_one() -> None:
    wire = Wire(CoreConfig(supported=("timer",)))
    wire.call()
    rings(wire, reliable=True)
    wire.settle()
    assert wire.ladder[2:] == ["< 180 INVITE"]


def test_an_offer_in_a_reliable_183_is_answered_in_the_prack() -> None:
    wire = Wire()
    caller = wire.call(b"")
    wire.settle()
    callee = wire.callee.last(IncomingInvite).session
    wire.do(wire.callee, callee.progress(183, wire.now, body=OFFER, reliable=True))
    wire.settle()
    early = wire.caller.last(Provisional)
    assert early.wants_answer
    wire.do(wire.caller, caller.prack(early.response, ANSWER, wire.now))
    wire.settle()
    assert wire.callee.last(AnswerConfirmed).body == ANSWER
    wire.do(wire.callee, callee.accept(wire.now))
    wire.settle()
    assert caller.state is State.CONFIRMED


def test_a_prack_may_hold_a_new_offer_once_the_first_is_settled() -> None:
    wire = Wire()
    caller = wire.call()
    invite = wire.sent[0]
    assert isinstance(invite, Request)
    wire.settle()
    callee = wire.callee.last(IncomingInvite).session
    wire.do(wire.callee, callee.progress(183, wire.now, body=ANSWER, reliable=True))
    wire.settle()
    wire.do(wire.callee, callee.progress(180, wire.now, reliable=True))
    wire.fate = losing("PRACK")
    wire.settle()
    wire.fate = losing()
    # Our own side PRACKs at once; so this one is a second, with an offer, that reaches the callee first.
    ringing = wire.caller.last(Provisional).response
    wire.do(wire.caller, caller.prack(ringing, OFFER, wire.now))
    wire.settle()
    assert wire.callee.names()[-1] == "OfferReceived"
    request = wire.callee.events[-1].request        # type: ignore[union-attr]
    wire.do(wire.callee, callee.accept(wire.now))
    assert "< 200 INVITE" not in wire.ladder        # it waits until that offer is answered
    wire.do(wire.callee, callee.accept_offer(request, ANSWER, wire.now))
    wire.settle()
    assert wire.caller.names()[-2:] == ["OfferAnswered", "Answered"]
    assert caller.may_reoffer


@pytest.mark.parametrize("rack", ["1 1 INVITE", "x", None])
def test_a_prack_that_matches_nothing_is_refused(rack: str | None) -> None:
    wire = Wire()
    caller = wire.call()
    callee = rings(wire)
    wire.settle()
    dialog = caller.current_dialog()
    assert dialog is not None
    fields = [] if rack is None else [("RAck", rack)]
    prack = dialog.request("PRACK", "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKp", fields)
    wire.ladder.clear()
    wire.inject(wire.callee, bytes(prack))
    assert wire.ladder == ["< 400 PRACK" if rack == "x" else "< 481 PRACK"]
    assert callee.state is State.EARLY


def test_reliable_responses_are_taken_in_order_only() -> None:
    wire, _, invite = forked()

    def reliable(number: int) -> bytes:
        headers = [("Require", "100rel"), ("RSeq", str(number))]
        return bytes(invite.response(183, to_tag="t1", contact="<sip:bob@10.0.0.2>", headers=headers))
    for number in (7, 7, 9, 8, 6, 9):
        wire.inject(wire.caller, reliable(number))
    assert [event.response.rseq for event in wire.caller.events if isinstance(event, Provisional)] == [7, 8, 9]
    assert [str(message.rack) for message in wire.sent if name_of(message) == "PRACK"] == [
        "7 1 INVITE", "8 1 INVITE", "9 1 INVITE"]


# -- offers later on -----------------------------------------------------------------------------------------------


def accepting(wire: Wire) -> None:
    """Both ends accept every offer with a body that tells who said it."""
    def react(end: End, event: Effect) -> list[Effect]:
        match event:
            case OfferReceived(session, request):
                return session.accept_offer(request, ANSWER, wire.now)
        return []
    wire.caller.react = wire.callee.react = react


@pytest.mark.parametrize(("command", "ladder"), [
    ("reoffer", ["INVITE", "100 INVITE", "200 INVITE", "ACK"]),
    ("update", ["UPDATE", "200 UPDATE"]),
])
@pytest.mark.parametrize("who", [0, 1])
def test_an_offer_of_either_side_is_answered(who: int, command: str, ladder: list[str]) -> None:
    wire = Wire()
    sessions = is_up(wire)
    accepting(wire)
    mine, theirs = (wire.caller, wire.callee) if who == 0 else (wire.callee, wire.caller)
    wire.do(mine, getattr(sessions[who], command)(OFFER, wire.now))
    assert not sessions[who].may_reoffer
    wire.settle()
    assert [step[2:] for step in wire.ladder] == ladder
    assert mine.last(OfferAnswered).response.body == ANSWER
    assert theirs.last(OfferReceived).offer == OFFER
    assert all(session.may_reoffer for session in sessions)


def test_an_offerless_re_invite_is_answered_in_its_ack() -> None:
    wire = Wire()
    caller, _ = is_up(wire)
    accepting(wire)
    wire.do(wire.caller, caller.reoffer(b"", wire.now))
    wire.settle()
    assert wire.callee.last(OfferReceived).offer == b""
    assert wire.caller.last(OfferAnswered).wants_answer
    wire.do(wire.caller, caller.ack(OFFER, wire.now))
    wire.settle()
    assert wire.callee.last(AnswerConfirmed).body == OFFER
    assert wire.ladder[-1] == "> ACK"


def test_a_refused_offer_leaves_the_session_as_it_was() -> None:
    wire = Wire()
    caller, callee = is_up(wire)
    wire.do(wire.caller, caller.reoffer(OFFER, wire.now))
    wire.settle()
    wire.do(wire.callee, callee.refuse_offer(wire.callee.last(OfferReceived).request, 488, wire.now))
    wire.settle()
    assert wire.caller.last(OfferRefused).response.status == 488
    assert caller.may_reoffer
    assert callee.may_reoffer


def test_two_re_invites_at_once_are_refused_and_tried_again_one_after_the_other() -> None:
    wire = Wire()
    caller, callee = is_up(wire)
    accepting(wire)
    wire.do(wire.caller, caller.reoffer(OFFER, wire.now))
    wire.do(wire.callee, callee.reoffer(OFFER, wire.now))
    start = wire.now
    wire.settle()
    assert (wire.ladder.count("> 491 INVITE"), wire.ladder.count("< 491 INVITE")) == (1, 1)
    wire.run(start + 2.05)
    assert wire.callee.names()[-1] == "OfferAnswered"       # who does not own the Call-ID waits 0 to 2 s
    assert not caller.may_reoffer
    wire.run(start + 4.1)
    assert "OfferAnswered" in wire.caller.names()           # its owner 2.1 to 4 s
    assert "OfferRefused" not in wire.caller.names() + wire.callee.names()


def test_an_offer_while_another_is_under_way_is_refused_here() -> None:
    wire = Wire()
    caller, _ = is_up(wire)
    wire.do(wire.caller, caller.reoffer(OFFER, wire.now))
    effects = caller.reoffer(OFFER, wire.now)
    assert kinds(effects) == ["OfferRefused"]
    assert isinstance(effects[0], OfferRefused)
    assert effects[0].response.status == 491


def test_an_update_to_a_peer_that_knows_none_is_refused_here() -> None:
    wire = Wire(callee_config=CoreConfig(allow=("INVITE", "ACK", "BYE", "CANCEL")))
    caller, _ = is_up(wire)
    effects = caller.update(OFFER, wire.now)
    assert isinstance(effects[0], OfferRefused)
    assert effects[0].response.status == 405


def test_an_offer_before_the_ack_is_held_until_then() -> None:
    wire = Wire()
    wire.call()
    callee = rings(wire)
    accepting(wire)
    wire.do(wire.callee, callee.accept(wire.now, body=ANSWER))
    wire.do(wire.callee, callee.reoffer(OFFER, wire.now))
    assert wire.ladder[-1] == "< 200 INVITE"
    wire.settle()
    assert wire.ladder[-5:] == ["> ACK", "< INVITE", "> 100 INVITE", "> 200 INVITE", "< ACK"]


def second_request(session: InviteSession, method: str, body: bytes = OFFER, branch: str = "second") -> bytes:
    """A request of the peer's dialog that its own core would not send."""
    dialog = session.current_dialog()
    assert dialog is not None
    fields = [("Contact", session.contact)]
    via = f"SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK{branch}"
    return bytes(dialog.request(method, via, fields, body))


@pytest.mark.parametrize(("first", "second", "status"), [
    ("INVITE", "INVITE", 500), ("INVITE", "UPDATE", 500), ("UPDATE", "UPDATE", 500), ("UPDATE", "INVITE", 500),
])
def test_an_offer_of_the_peer_while_we_owe_an_answer_gets_500(first: str, second: str, status: int) -> None:
    wire = Wire()
    caller, callee = is_up(wire)
    wire.do(wire.caller, (caller.reoffer if first == "INVITE" else caller.update)(OFFER, wire.now))
    wire.settle()
    wire.fate = lambda message: []
    wire.inject(wire.callee, second_request(caller, second))
    refusal = wire.sent[-1]
    assert name_of(refusal) == f"{status} {second}"
    assert 1 <= (refusal.retry_after or 0) <= 10
    assert callee.owed


@pytest.mark.parametrize("ours", ["reoffer", "update"])
@pytest.mark.parametrize("theirs", ["INVITE", "UPDATE"])
def test_an_offer_of_the_peer_while_ours_is_open_gets_491(ours: str, theirs: str) -> None:
    wire = Wire()
    caller, callee = is_up(wire)
    wire.fate = lambda message: []
    wire.do(wire.callee, getattr(callee, ours)(OFFER, wire.now))
    wire.inject(wire.callee, second_request(caller, theirs))
    assert wire.ladder[-1] == f"< 491 {theirs}"


def test_an_update_without_an_offer_is_answered_inside() -> None:
    wire = Wire()
    caller, _ = is_up(wire)
    events = len(wire.callee.events)
    wire.inject(wire.callee, second_request(caller, "UPDATE", b""))
    assert wire.ladder == ["< 200 UPDATE"]
    assert len(wire.callee.events) == events


def test_an_early_update_needs_the_first_exchange_to_be_settled() -> None:
    wire = Wire()
    caller = wire.call()
    wire.settle()
    callee = wire.callee.last(IncomingInvite).session
    accepting(wire)
    wire.do(wire.callee, callee.progress(183, wire.now, body=ANSWER))
    wire.settle()
    assert kinds(callee.update(OFFER, wire.now)) == ["OfferRefused"]
    wire.do(wire.callee, callee.progress(183, wire.now, body=ANSWER, reliable=True))
    wire.settle()
    for end, session in ((wire.callee, callee), (wire.caller, caller)):
        wire.ladder.clear()
        wire.do(end, session.update(OFFER, wire.now))
        wire.settle()
        assert [step[2:] for step in wire.ladder] == ["UPDATE", "200 UPDATE"]
        assert end.last(OfferAnswered).response.body == ANSWER


def test_an_answer_that_comes_too_late_for_an_update_changes_nothing() -> None:
    wire = Wire()
    caller, callee = is_up(wire)
    wire.do(wire.caller, caller.update(OFFER, wire.now))
    wire.fate = losing("100 UPDATE")
    wire.settle()
    wire.fate = losing("BYE")               # the caller gives up after 32 s
    wire.run(wire.now + 31.95)
    request = wire.callee.last(OfferReceived).request
    before = callee.local_sdp
    assert callee.accept_offer(request, b"v=0 late", wire.now + 1) == []
    assert callee.local_sdp == before
    assert callee.may_reoffer


def test_a_cancelled_re_invite_gets_487_and_a_late_answer_is_nothing() -> None:
    wire = Wire()
    caller, callee = is_up(wire)
    wire.do(wire.caller, caller.reoffer(OFFER, wire.now))
    wire.settle()
    request = wire.callee.last(OfferReceived).request
    assert caller.reoffers is not None
    wire.do(wire.caller, caller.reoffers.stop(wire.now))
    wire.settle()
    assert "< 487 INVITE" in wire.ladder
    assert callee.accept_offer(request, ANSWER, wire.now) == []
    assert callee.may_reoffer


def test_a_re_invite_shows_that_the_lost_ack_was_sent() -> None:
    wire = Wire()
    caller = wire.call()
    callee = rings(wire)
    wire.fate = losing("ACK")
    wire.do(wire.callee, callee.accept(wire.now, body=ANSWER))
    wire.settle()
    wire.do(wire.caller, caller.reoffer(OFFER, wire.now))
    wire.settle()
    assert wire.callee.names() == ["IncomingInvite", "Confirmed", "OfferReceived"]


# -- session timers ------------------------------------------------------------------------------------------------


def test_the_session_is_refreshed_at_half_its_interval_by_update() -> None:
    wire = Wire(timer_config())
    is_up(wire)
    wire.run(wire.now + 46)
    assert wire.ladder == ["> UPDATE", "< 200 UPDATE"]
    update = wire.sent[-2]
    assert update.session_expires is not None
    assert (update.session_expires.seconds, update.session_expires.refresher) == (90, "uac")
    wire.run(wire.now + 1000)
    assert (ends(wire.caller), ends(wire.callee)) == ([], [])


def timer_config(**more: object) -> CoreConfig:
    return CoreConfig(session_timer=SessionTimerPolicy(expires=90, ask=True), **more)     # type: ignore[arg-type]


def test_the_session_is_refreshed_by_re_invite_where_update_is_unknown() -> None:
    wire = Wire(timer_config(), callee_config=CoreConfig(allow=("INVITE", "ACK", "BYE", "CANCEL")))
    is_up(wire)
    accepting(wire)
    wire.run(wire.now + 46)
    assert wire.ladder == ["> INVITE", "< 100 INVITE", "< 200 INVITE", "> ACK"]
    assert wire.callee.last(OfferReceived).offer == OFFER
    assert "OfferAnswered" not in wire.caller.names()


@pytest.mark.parametrize("lost", ["UPDATE", "200 UPDATE"])
def test_a_session_that_cannot_be_refreshed_ends(lost: str) -> None:
    wire = Wire(timer_config())
    is_up(wire)
    wire.fate = losing(lost)
    wire.run(wire.now + 200)
    assert {cause for _, cause in ends(wire.caller) + ends(wire.callee)} == {EndCause.SESSION_EXPIRED, EndCause.BYE}
    wire.run(wire.now + 200)
    assert wire.is_empty


def test_a_callee_that_sees_no_refresh_says_bye_with_the_reason() -> None:
    wire = Wire(timer_config())
    is_up(wire)
    wire.fate = losing("UPDATE", "BYE")
    wire.run(wire.now + 61)
    assert ends(wire.callee) == [(Party.LOCAL, EndCause.SESSION_EXPIRED)]
    bye = next(message for message in wire.sent if name_of(message) == "BYE")
    assert "expired" in (bye.headers.get("Reason") or "").lower()


def test_a_422_is_answered_with_a_larger_interval() -> None:
    wire = Wire(timer_config(), callee_config=CoreConfig(session_timer=SessionTimerPolicy(min_se=300)))
    wire.call()
    callee = rings(wire)
    wire.do(wire.callee, callee.accept(wire.now, body=ANSWER))
    wire.settle()
    assert wire.ladder[:4] == ["> INVITE", "< 422 INVITE", "> ACK", "> INVITE"]
    assert wire.caller.names() == ["Provisional", "Answered"]
    assert callee.invite.session_expires is not None
    assert callee.invite.session_expires.seconds == 300
    assert callee.invite.min_se == 300


@pytest.mark.parametrize("again", [
    lambda asked: (422, ("Min-SE", str(100 + asked))), lambda _: (500, ("Retry-After", "0")),
], ids=["422", "500"])
def test_a_peer_that_never_has_enough_of_refreshes_is_asked_so_often_and_no_more(
    again: Callable[[int], tuple[int, tuple[str, str]]],
) -> None:
    wire = Wire(timer_config())
    is_up(wire)
    wire.fate = losing("UPDATE")
    wire.run(wire.now + 46)
    asked: list[int] = []
    while (update := wire.sent[-1]).cseq.number not in asked:
        assert isinstance(update, Request)
        asked.append(update.cseq.number)
        status, header = again(len(asked))
        wire.inject(wire.caller, bytes(update.response(status, headers=[header])))
        wire.settle()
    assert len(asked) == MAX_REFRESHES
    wire.run(wire.now + 200)                # the session goes on until it expires
    assert {cause for _, cause in ends(wire.caller) + ends(wire.callee)} == {EndCause.SESSION_EXPIRED, EndCause.BYE}
    wire.run(wire.now + 200)
    assert wire.is_empty


# -- inside the dialog ---------------------------------------------------------------------------------------------


def test_info_and_its_like_pass_through_to_the_user() -> None:
    wire = Wire()
    caller, callee = is_up(wire)
    wire.do(wire.caller, caller.request("INFO", wire.now, body=b"Signal=5", content_type="application/dtmf-relay"))
    wire.settle()
    request = wire.callee.last(DialogRequest).request
    assert (request.body, request.content_type) == (b"Signal=5", "application/dtmf-relay")
    wire.do(wire.callee, callee.respond(request, 200, wire.now))
    wire.settle()
    assert wire.caller.last(DialogResponse).response.status == 200


def test_options_inside_the_dialog_are_answered_inside() -> None:
    wire = Wire()
    caller, _ = is_up(wire)
    wire.do(wire.caller, caller.request("OPTIONS", wire.now))
    wire.settle()
    assert wire.ladder == ["> OPTIONS", "< 200 OPTIONS"]
    assert wire.callee.names()[-1] == "Confirmed"


def test_a_peer_may_not_pile_up_requests() -> None:
    wire = Wire()
    caller, callee = is_up(wire)
    for _ in range(MAX_OWED + 3):
        wire.do(wire.caller, caller.request("INFO", wire.now))
    wire.settle()
    assert wire.ladder.count("< 500 INFO") == 3
    assert len(callee.owed) == MAX_OWED


def test_a_request_out_of_order_gets_500() -> None:
    wire = Wire()
    caller, _ = is_up(wire)
    assert caller.dialog is not None
    caller.dialog.local_seq = -1
    wire.do(wire.caller, caller.request("INFO", wire.now))
    wire.settle()
    assert wire.ladder == ["> INFO", "< 500 INFO"]


@pytest.mark.parametrize("status", [408, 481])
def test_a_peer_that_no_longer_knows_the_dialog_ends_it(status: int) -> None:
    wire = Wire()
    caller, _ = is_up(wire)
    wire.fate = losing("INFO")
    wire.do(wire.caller, caller.request("INFO", wire.now))
    info = wire.sent[-1]
    assert isinstance(info, Request)
    wire.inject(wire.caller, bytes(info.response(status)))
    wire.settle()
    assert wire.caller.names()[-2:] == ["DialogResponse", "Ended"]
    assert ends(wire.caller) == [(Party.REMOTE, EndCause.DIALOG_GONE)]
    assert wire.ladder[-2:] == ["> BYE", "< 200 BYE"]


@pytest.mark.parametrize("status", [408, 481, 489])
def test_a_notify_that_fails_ends_its_subscription_and_not_the_call(status: int) -> None:
    wire = Wire()
    caller, callee = is_up(wire)
    wire.fate = losing("NOTIFY")
    wire.do(wire.caller, caller.request("NOTIFY", wire.now))
    notify = wire.sent[-1]
    assert isinstance(notify, Request)
    if status == 408:
        wire.run(wire.now + 33)                      # nobody answers
    else:
        wire.inject(wire.caller, bytes(notify.response(status)))
    wire.settle()
    assert wire.caller.last(DialogResponse).response.status == status
    assert ends(wire.caller) == []
    assert (caller.state, callee.state) == (State.CONFIRMED, State.CONFIRMED)


def test_a_request_that_finds_no_answer_ends_the_dialog() -> None:
    wire = Wire()
    caller, _ = is_up(wire)
    wire.fate = lambda message: []
    wire.do(wire.caller, caller.request("INFO", wire.now))
    wire.run(wire.now + 33)
    assert wire.caller.last(DialogResponse).response.status == 408
    assert ends(wire.caller) == [(Party.REMOTE, EndCause.DIALOG_GONE)]


def test_a_challenge_inside_the_dialog_is_answered_inside() -> None:
    wire = Wire()
    wire.call(authorize=lambda request, response: [("Authorization", f"for {request.method} {response.status}")])
    callee = rings(wire)
    wire.do(wire.callee, callee.accept(wire.now, body=ANSWER))
    wire.settle()
    caller = wire.caller.last(Answered).session
    wire.do(wire.caller, caller.request("INFO", wire.now))
    wire.settle()
    wire.do(wire.callee, callee.respond(wire.callee.last(DialogRequest).request, 401, wire.now))
    wire.settle()
    request = wire.callee.last(DialogRequest).request
    assert (request.headers.get("Authorization"), request.cseq.number) == ("for INFO 401", 3)
    assert "DialogResponse" not in wire.caller.names()


def test_a_rejected_call_is_tried_again_with_credentials() -> None:
    wire = Wire()
    caller = wire.call()
    wire.settle()
    first = wire.callee.last(IncomingInvite).session
    wire.do(wire.callee, first.reject(401, wire.now, headers=[("WWW-Authenticate", 'Digest realm="x", nonce="y"')]))
    wire.settle()
    session, effects = wire.caller.core.retry(caller, [("Authorization", "Digest ...")], wire.now)
    assert session is caller
    wire.do(wire.caller, effects)
    callee = rings(wire)
    wire.do(wire.callee, callee.accept(wire.now, body=ANSWER))
    wire.settle()
    assert (callee.call_id, callee.invite.from_tag, callee.invite.cseq.number) == (first.call_id, caller.id, 2)
    ack = wire.sent[-1]
    assert (name_of(ack), ack.headers.get("Authorization"), ack.cseq.number) == ("ACK", "Digest ...", 2)
    assert caller.state is State.CONFIRMED


def test_since_when_an_invite_waits_for_a_sign_of_life_is_known() -> None:
    wire = Wire()
    caller = wire.call()
    began = wire.now
    assert caller.unheard_since == began
    wire.settle()                                               # a 100 is one
    assert caller.unheard_since is None
    wire.run(began + 3)
    challenge = [("WWW-Authenticate", 'Digest realm="x", nonce="y"')]
    wire.do(wire.callee, wire.callee.last(IncomingInvite).session.reject(401, wire.now, headers=challenge))
    wire.settle()
    asked_again = wire.now
    wire.do(wire.caller, wire.caller.core.retry(caller, [("Authorization", "Digest ...")], asked_again)[1])
    assert caller.unheard_since == asked_again
    callee = rings(wire)
    assert (caller.unheard_since, callee.unheard_since) == (None, None)


def test_a_call_hung_up_after_its_refusal_is_not_tried_again() -> None:
    wire = Wire()
    caller = wire.call()
    wire.settle()
    wire.do(wire.callee, wire.callee.last(IncomingInvite).session.reject(401, wire.now))
    wire.settle()
    assert caller.hang_up(wire.now) == []
    assert wire.caller.core.retry(caller, [], wire.now) == (caller, [])


def test_a_lost_connection_ends_what_waits_on_it_and_nothing_else() -> None:
    wire = Wire(transport=Transport.TCP)
    caller, _ = is_up(wire)
    waiting = wire.call()
    effects = wire.caller.core.transport_failed(wire.caller.flow, wire.now)
    assert [(type(effect), getattr(effect, "session", None)) for effect in effects] == [(Ended, waiting)]
    assert isinstance(effects[0], Ended)
    assert effects[0].cause is EndCause.TRANSPORT_FAILED
    assert caller.state is State.CONFIRMED
