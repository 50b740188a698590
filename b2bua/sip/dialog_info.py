"""The dialog event package: what a phone is doing, as a document for those who watch it (RFC 4235 §4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from b2bua.sip.uri import Uri

EVENT: Final = "dialog"
CONTENT_TYPE: Final = "application/dialog-info+xml"
MAX_DIALOGS: Final = 4                     # of one document, so that it fits a datagram; the newest are told

_XMLNS = "urn:ietf:params:xml:ns:dialog-info"
# What XML 1.0 §2.2 has no character for, not even escaped.
_NO_CHARACTERS: Final = dict.fromkeys((*range(0x20), 0x7F, *range(0xD800, 0xE000), 0xFFFE, 0xFFFF), " ")


class DialogState(Enum):
    """RFC 4235 §3.7.1; a dialog that is over is told as that, and then no more."""

    TRYING = "trying"
    EARLY = "early"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class Who:
    """A party of a dialog, as others may see it."""

    uri: Uri
    name: str = ""


@dataclass(frozen=True, slots=True)
class DialogTags:
    """The dialog's own names, as the watched phone writes them: an INVITE with Replaces needs them."""

    call_id: str
    local_tag: str
    remote_tag: str


@dataclass(frozen=True, slots=True)
class DialogInfo:
    """One dialog of the watched phone. `id` tells it apart from the phone's others, and is never used again."""

    id: str
    state: DialogState
    recipient: bool                        # it was called
    tags: DialogTags | None = None
    remote: Who | None = None              # None: the watcher may not know


def full_state(entity: Uri, version: int, dialogs: Sequence[DialogInfo], ended: Iterable[str] = ()) -> bytes:
    """All that the phone does now. `ended`: ids of dialogs that were told before and are over.

    A phone that does nothing is said to have one dialog that is over: many phones put their lamp out for that only,
    not for a document without any dialog.
    """
    lines = ['<?xml version="1.0" encoding="UTF-8"?>',
             f'<dialog-info xmlns="{_XMLNS}" version="{version}" state="full" entity={quoteattr(str(entity))}>']
    gone = list(ended)
    if not dialogs and not gone:
        gone = [entity.user or "none"]
    for one in dialogs:
        lines += _dialog(entity, one)
    lines += [f"<dialog id={_attribute(id_)}><state>{DialogState.TERMINATED.value}</state></dialog>" for id_ in gone]
    lines.append("</dialog-info>\r\n")
    return "\r\n".join(lines).encode("utf-8", "replace")


def _dialog(entity: Uri, one: DialogInfo) -> list[str]:
    tags = ""
    if one.tags is not None:
        tags = (f" call-id={_attribute(one.tags.call_id)} local-tag={_attribute(one.tags.local_tag)}"
                f" remote-tag={_attribute(one.tags.remote_tag)}")
    direction = "recipient" if one.recipient else "initiator"
    lines = [f'<dialog id={_attribute(one.id)}{tags} direction="{direction}">',
             f"<state>{one.state.value}</state>",
             *_party("local", Who(entity))]
    if one.remote is not None:
        lines += _party("remote", one.remote)
    return [*lines, "</dialog>"]


def _party(element: str, who: Who) -> list[str]:
    """The identity, and the target, without which some phones show nothing."""
    uri = str(who.uri)
    name = f" display={_attribute(who.name)}" if who.name else ""
    return [f"<{element}><identity{name}>{escape(_characters(uri))}</identity>",
            f"<target uri={_attribute(uri)}/></{element}>"]


def _attribute(text: str) -> str:
    return quoteattr(_characters(text))


def _characters(text: str) -> str:
    return text.translate(_NO_CHARACTERS)
