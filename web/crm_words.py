"""What the pages call the fields of a CRM account, and what they say of its state."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from b2bua.crm.switches import Switches
from b2bua.widget_archive import WIDGET


def _of_widget(language: str) -> dict[str, tuple[str, str]]:
    """F5 to F10, label and sentence, as the widget's settings have them."""
    texts = json.loads((WIDGET / "i18n" / f"{language}.json").read_text("utf-8"))
    return {name: (texts["functions"][name], texts["sentences"][name]) for name in Switches.model_fields}


_FUNCTIONS = _of_widget("en")

_RULES: Mapping[str, tuple[str, str]] = {
    "incoming_answered": ("Who calls and is talked to becomes", ""),
    "incoming_missed": ("Who calls and is missed becomes", ""),
    "outgoing_answered": ("Who is called and answers becomes", ""),
    "outgoing_unanswered": ("Who is called and does not answer becomes", ""),
    "contact_name": ("Name of a new contact", "May say {number}, {did} and {name}, as the texts below."),
    "responsible": ("Responsible for a new contact", ""),
    "tag": ("Tag on new contacts and deals", ""),
    "fill_in_text": ("Text of the task for a new contact", ""),
    "fill_in_minutes": ("It is due after, min", ""),
    "call_back_text": ("Text of the task for a missed call", ""),
    "call_back_minutes": ("That one is due after, min", ""),
    "deal.pipeline": ("Pipeline of the deal", "Its id. Empty: the account's main one."),
    "deal.stage": ("Stage of the deal", "Its id. Empty: the first of the pipeline."),
    "deal.name": ("Name of the deal", ""),
}

WORDS: Mapping[str, tuple[str, str]] = {
    **_FUNCTIONS,
    "base_url": ("Address of the account", "As https://NAME.amocrm.ru. Another address wants its secrets anew."),
    "token": ("Long-lived token", "Of the integration, from its tab of keys. Without one the integration itself is the "
              "way in."),
    "client_id": ("Id of the integration", "From its tab of keys."),
    "client_secret": ("Secret key of the integration", "From its tab of keys."),
    "redirect_uri": ("Redirect address", "Character by character as it stands in the integration."),
    "widget": ("Code of the widget", "As it stands at the uploaded widget. Empty: there is none."),
    "users_from": ("Whose extension is whose", "In the widget's settings, or on the page of users here."),
    "patience": ("Patience, s", "A phone waits no longer for the CRM before it rings."),
    "responsible_ring_seconds": ("The responsible user rings for, s", "Before the call goes the usual way."),
    "default_user": ("Default user", "Id of the CRM user for whom there is no better one."),
    "sync": ("Read ahead who has which number", "Then no call waits for the CRM."),
    "sync_minutes": ("Minutes between two looks at changes", ""),
    "sync_cards": ("Cards that are read ahead", "Contacts, and as many companies and deals; those that changed last."),
    "webhooks": ("The CRM tells what changes", "Where it can reach this server."),
    "pop_up": ("The caller's card pops up", "At the users whose phones ring."),
    "not_told": ("Numbers that the CRM is not told of", "One a line. Their calls leave no trace in it."),
    **_RULES,
    **{f"rules.{name}": words for name, words in _RULES.items()},
}

CHOICES: Mapping[str, str] = {
    "contact": "a contact", "unsorted": "an unsorted lead", "nothing": "nothing",
    "answered": "Who talked last, else the default user", "default": "Always the default user",
    "widget": "In the widget's settings", "file": "On the page of users",
}


@dataclass(frozen=True, slots=True)
class StateWords:
    label: str
    mark: str                          # class of its badge
    remedy: str


# Of b2bua.crm.health.Status.
STATES: Mapping[str, StateWords] = {
    "connected": StateWords("connected", "good", ""),
    "not connected": StateWords("not connected yet", "bad", "Press “Connect” and allow the integration, signed in to "
                                "amoCRM as an administrator of the account."),
    "uncertain": StateWords("uncertain", "bad", "The answer with new tokens was lost. It is tried again by itself; if "
                            "that does not help, connect the account again."),
    "refused": StateWords("refused", "fault", "amoCRM lets us in no more: connect the account again."),
    "disconnected": StateWords("switched off in amoCRM", "fault", "Switch the integration on again there, and connect "
                               "the account."),
    "locked": StateWords("locked", "fault", "Its secrets are sealed with a key that the server does not have any more: "
                         "enter them again, or have the operator of the platform add the old key."),
    "expired": StateWords("expired", "fault", "Make another long-lived token in the integration, and enter it below."),
}
ENDS_SOON = "The way in ends soon: connect the account again, or enter another token."

# Of b2bua.crm.sync.SyncState, by value.
SYNC: Mapping[str, str] = {
    "reading": "All cards are being read for the first time.",
    "complete": "All cards have been read.",
    "partial": "There are more cards than may be read: those that changed last are known.",
    "ill": "They cannot be read just now; it is tried again.",
}


def of_widget(language: str) -> Iterator[tuple[str, str]]:
    """English and that language, of all that stands in the widget's own files."""
    other = _of_widget(language)
    for name, (label, sentence) in _FUNCTIONS.items():
        yield label, other[name][0]
        yield sentence, other[name][1]


def messages() -> Iterator[str]:
    """All that is said of states, for translators; the words of fields are in office_words.py as well."""
    for state in STATES.values():
        yield from (state.label, state.remedy) if state.remedy else (state.label,)
    yield from SYNC.values()
    yield ENDS_SOON
