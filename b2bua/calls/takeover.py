"""Phones that come into a call that there is, and make none of their own: by a pickup code, or by INVITE with Replaces
(RFC 3891)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2bua.calls.board import Line
from b2bua.calls.bridge import Talk
from b2bua.calls.entry import Joins, Newcomer
from b2bua.calls.pickup import PicksUp, find_ringing, may_replace_ringing, wanted
from b2bua.calls.transfer import Named, may_replace
from b2bua.directory import Extension
from b2bua.routing.plan import NoRoute, Plan
from b2bua.sip.fields import Replaces
from b2bua.sip.grammar import ParseError
from b2bua.sip.invite_session import InviteSession
from b2bua.ua.agent import UserAgent
from b2bua.ua.leg import Leg

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard


class Takeovers:
    def __init__(self, pbx: Switchboard, agent: UserAgent) -> None:
        self._pbx = pbx
        self._agent = agent

    def pick_up_or_dial(self, session: InviteSession, extension: Extension, dialled: str) -> Plan | NoRoute | None:
        """None: the phone goes into a call that rings at a colleague's."""
        directory = self._pbx.directory
        number = wanted(directory, extension, dialled)
        if number is None:
            return self._pbx.plan_for(extension, dialled)
        found = find_ringing(self._pbx.board, directory, extension, number)
        if isinstance(found, NoRoute):
            return found
        self._pick_up(session, extension, found, 480)
        return None

    def replace(self, session: InviteSession, extension: Extension) -> None:
        """INVITE with Replaces."""
        try:
            replaces = Replaces.of(session.invite)
        except ParseError:
            replaces = None
        if replaces is None:
            self._agent.perform(session.reject(400, self._agent.now()))
            return
        if (line := self._ringing_named(replaces)) is not None:
            client = self._pbx.directory.client.get(extension.client)
            if may_replace_ringing(line, client, extension):
                self._pick_up(session, extension, line, 481)
            else:
                self._agent.perform(session.reject(403, self._agent.now()))
            return
        match may_replace(self.dialog_named(replaces), extension, replaces):
            case (Talk() as talk, Leg() as instead_of) if session.offer:
                leg = self._agent.accept(session, extension.number, talk.inbox)
                talk.inbox.put(leg, Joins(Newcomer(leg, extension, leg.offer), instead_of, None))
            case int() as status:
                self._agent.perform(session.reject(status, self._agent.now()))
            case _:                        # who takes over has to say by which codecs
                self._agent.perform(session.reject(488, self._agent.now()))

    def dialog_named(self, replaces: Replaces) -> Named | int:
        """The dialog with those tags, as the phone at its other end writes them; else the status of RFC 3891 §3."""
        session = self._agent.core.find(replaces.call_id, replaces.to_tag, replaces.from_tag)
        if session is None:
            return 481
        leg = self._agent.leg_of(session)
        if leg is None or leg.end is not None:
            return 603                     # it is over already
        live = next((live for live in self._pbx.live() if live.inbox is leg.inbox), None)
        return 481 if live is None else Named(leg, live.call, self._pbx.talk_in(leg.inbox))

    def _pick_up(self, session: InviteSession, extension: Extension, line: Line, too_late: int) -> None:
        there = self._agent.leg_of(line.session)
        if there is None or not session.offer:         # who picks up has to say by which codecs
            self._agent.perform(session.reject(481 if there is None else 488, self._agent.now()))
            return
        leg = self._agent.accept(session, extension.number, there.inbox)
        there.inbox.put(leg, PicksUp(leg, extension, too_late))

    def _ringing_named(self, replaces: Replaces) -> Line | None:
        """The phone that rings in that dialog. Which of the tags is ours is told differently by phones that have them
        of a dialog-info: as the ringing phone would write them (RFC 4235 §4.1), or as we would."""
        tags = (replaces.to_tag, replaces.from_tag)
        for ours, theirs in (tags, tags[::-1]):
            session = self._agent.core.find(replaces.call_id, ours, theirs)
            line = self._pbx.board.line_of(session) if session is not None else None
            if line is not None and line.rings:
                return line
        return None
