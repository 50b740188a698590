"""Who owes whom a session description: the exchange of offers in one dialog (RFC 3264 §4, RFC 6337 §2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2bua.sip.effects import Party

if TYPE_CHECKING:
    from b2bua.sip.message import Message

MAX_BODY_PARTS = 8

_SESSION_DESCRIPTIONS = frozenset({"application/sdp", "application/*", "*/*"})


class OfferAnswer:
    """One exchange at a time: an offer is answered or withdrawn before the next may be made.

                     offer(by)                    answer()
        (nothing) ────────────> pending = by ──────────────> settled
            ^                       │  ^                        │
            └──────withdraw()───────┘  └────────offer(by)───────┘
    """

    __slots__ = ("pending", "previewed", "settled")

    def __init__(self) -> None:
        self.pending: Party | None = None     # whose offer waits for its answer
        self.settled = False                  # a first exchange is complete
        self.previewed = b""                  # the last session description in an 18x to our INVITE

    def offer(self, by: Party) -> None:
        assert self.pending is None, "offers overlap"
        self.pending = by

    def answer(self) -> None:
        assert self.pending is not None, "an answer without an offer"
        self.pending = None
        self.settled = True

    def withdraw(self) -> None:
        """The offer was refused: what was agreed before stays agreed (RFC 3261 §14.1)."""
        self.pending = None


def sdp_of(message: Message) -> bytes:
    """The session description in a message's body, also out of a multipart (RFC 5621 §3.1); b"" when it has none."""
    body = message.body
    if not body:
        return b""
    kind = message.content_type
    if kind == "application/sdp" or (not kind and body.startswith(b"v=")):
        return body
    return _sdp_part(message) if kind.startswith("multipart/") else b""


def takes_sdp(message: Message) -> bool:
    """Whether the sender could read an answer, or another offer (RFC 3261 §20.1). An empty Accept, which forbids all,
    counts as none. Raises ParseError."""
    wanted = {value.partition(";")[0].strip().lower() for value in message.headers.get_all("Accept")} - {""}
    return not wanted or not wanted.isdisjoint(_SESSION_DESCRIPTIONS)


def _sdp_part(message: Message) -> bytes:
    boundary = _boundary(message.headers.get("Content-Type") or "")
    if not boundary:
        return b""
    for part in message.body.split(b"--" + boundary, MAX_BODY_PARTS)[1:]:
        head, blank, body = part.partition(b"\r\n\r\n")
        if blank and b"application/sdp" in head.lower():
            return body.removesuffix(b"\r\n") + b"\r\n"
    return b""


def _boundary(content_type: str) -> bytes:
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "boundary":
            return value.strip().strip('"').encode("utf-8", "surrogateescape")
    return b""
