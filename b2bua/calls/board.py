"""What the office's phones are doing, dialog by dialog: for those who watch them, and for those who pick up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from b2bua.calls.bridge import End, Talk
from b2bua.calls.display import display_name
from b2bua.calls.identity import hides
from b2bua.calls.invitation import Shown, shown
from b2bua.cdr import ClientId
from b2bua.directory import Client, Extension
from b2bua.sip.dialog_info import MAX_DIALOGS, DialogInfo, DialogState, DialogTags, Who
from b2bua.sip.invite_session import InviteSession
from b2bua.sip.stack import Role
from b2bua.sip.uri import Uri
from b2bua.ua.leg import Leg
from b2bua.ua.registrar import ExtensionKey

NOBODY = Shown("", "")


@dataclass(frozen=True, slots=True)
class Line:
    """One dialog of an extension's phone with us."""

    key: ExtensionKey
    session: InviteSession
    state: DialogState
    recipient: bool                        # we called the phone
    since: float                           # when it came into this state
    other: Shown                           # who is at the other end; no number: nobody may know

    @property
    def rings(self) -> bool:
        return self.recipient and self.state is DialogState.EARLY


class Board:
    """The dialogs of all extensions, as the calls tell them. A dialog leaves by its session's end, however it ends."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.changed: Callable[[ExtensionKey], None] = _nobody_watches
        self._now = now
        self._lines: dict[InviteSession, Line] = {}
        self._by_extension: dict[ExtensionKey, dict[InviteSession, None]] = {}

    def __len__(self) -> int:
        return len(self._lines)

    # -- what the calls tell

    def dials(self, leg: Leg, extension: Extension, dialled: str) -> None:
        self._put(leg, extension, DialogState.TRYING, Shown(dialled, ""))

    def proceeds(self, leg: Leg) -> None:
        """Somebody's phone rings for it."""
        line = self._lines.get(leg.session)
        if line is not None and line.state is DialogState.TRYING:
            self._set(replace(line, state=DialogState.EARLY, since=self._now()))

    def rings(self, leg: Leg, extension: Extension, caller: Shown) -> None:
        if leg.end is None:
            self._put(leg, extension, DialogState.EARLY, caller)

    def picks_up(self, leg: Leg, extension: Extension, other: Shown) -> None:
        """Its phone rings no more, and waits for somebody."""
        if leg.end is None:
            self._put(leg, extension, DialogState.CONFIRMED, other)

    def talks(self, talk: Talk) -> None:
        """Those two; the one in whose place a newcomer stands leaves by itself."""
        for end in (talk.caller, talk.callee):
            if end.extension is not None and end.leg.end is None:
                self._put(end.leg, end.extension, DialogState.CONFIRMED, _other(talk, end))

    def gone(self, session: InviteSession) -> None:
        line = self._lines.pop(session, None)
        if line is None:
            return
        sessions = self._by_extension[line.key]
        del sessions[session]
        if not sessions:
            del self._by_extension[line.key]
        self.changed(line.key)

    def _put(self, leg: Leg, extension: Extension, state: DialogState, other: Shown) -> None:
        key = extension.client, extension.number
        recipient = leg.session.role is Role.UAC
        self._set(Line(key, leg.session, state, recipient, self._now(), other))

    def _set(self, line: Line) -> None:
        before = self._lines.get(line.session)
        if before is not None and before == replace(line, since=before.since):
            return
        self._lines[line.session] = line
        self._by_extension.setdefault(line.key, {})[line.session] = None
        self.changed(line.key)

    # -- what others ask

    def lines(self, key: ExtensionKey) -> Sequence[Line]:
        return [self._lines[session] for session in self._by_extension.get(key, ())]

    @property
    def extensions(self) -> Iterable[ExtensionKey]:
        """Who has a dialog now."""
        return self._by_extension

    def all_ringing(self) -> Iterable[Line]:
        return (line for line in self._lines.values() if line.rings)

    def line_of(self, session: InviteSession) -> Line | None:
        return self._lines.get(session)

    def is_engaged(self, key: ExtensionKey) -> bool:
        """Whether one of its phones is in a call, or makes one. That one rings does not count."""
        return any(not line.rings for line in self.lines(key))

    def ringing(self, client: ClientId, numbers: Iterable[str]) -> Line | None:
        """Of the phones of these extensions, the one that has rung longest."""
        ringing = [line for number in numbers for line in self.lines((client, number)) if line.rings]
        return min(ringing, key=lambda line: line.since, default=None)

    def dialogs(self, key: ExtensionKey, client: Client) -> Sequence[DialogInfo]:
        """As colleagues may see it."""
        return [_info(line, client) for line in self.lines(key)[-MAX_DIALOGS:]]


def _info(line: Line, client: Client) -> DialogInfo:
    """Only what rings has its tags told, as whoever knows those of a dialog may end it."""
    session, other = line.session, line.other
    dialog = session.current_dialog() if line.rings and client.pickup_code else None
    tags = DialogTags(dialog.call_id, dialog.remote_tag, dialog.local_tag) if dialog is not None else None
    remote: Who | None = None
    if client.show_callers and other.number:
        remote = Who(Uri.sip(other.number, session.flow.local.host), display_name(other.name, ascii_only=False))
    return DialogInfo(session.id, line.state, line.recipient, tags, remote)


def _other(talk: Talk, end: End) -> Shown:
    """With whom that one talks. Who has withheld a number has withheld it from all who only watch."""
    other = talk.other(end)
    session = other.leg.session
    if session.role is Role.UAS and hides(session.invite):
        return NOBODY
    return shown(talk.call, other.extension)


def _nobody_watches(_: ExtensionKey) -> None:
    """Until there is a notifier."""
