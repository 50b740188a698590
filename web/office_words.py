"""What the set-up pages call the fields of apply entries, and how they say what the core says in the words of a file.

Everything here is English, and the id of its translations in locale/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from web import crm_words, trunk_words

_ONWARD = "Extension, group, +number or announcement:NAME. Empty: nowhere."
_RINGS = "When a colleague calls, or a call has come on to here."

# Field -> label, hint; with the name of a model before it, in its forms alone. What is not here has its own name, and
# the description of the apply file.
WORDS: Mapping[str, tuple[str, str]] = {
    "id": ("Short name", "For ever: letters, digits, dot, hyphen and underscore."),
    "name": ("Name", "Shown to people."),
    "number": ("Number", "What is dialled."),
    "password": ("Password", ""),
    "login": ("Login", "Unique on this server. Empty: made of the short name of the office and the number."),
    "crm_user": ("CRM user", "The id of this employee in amoCRM."),
    "address": ("Fixed address", "A SIP address, sip:101@192.0.2.1, of a phone that does not register."),
    "ascii_only": ("The phone shows Latin letters only", "Names are transliterated for it."),
    "max_contacts": ("Phones", "How many may be registered at once."),
    "caller_id": ("Number shown", "Outgoing calls show this number of yours. Empty: as trunk or office have it."),
    "hide_caller_id": ("Withhold the number", "Outgoing calls do not show who calls."),
    "ring_seconds": ("Ringing time, s", _RINGS),
    "forward_always": ("All calls go to", _ONWARD),
    "on_no_answer": ("When nobody answers", _ONWARD),
    "on_busy": ("When busy or declined", _ONWARD),
    "on_unregistered": ("When no phone is reachable", _ONWARD),
    "max_calls": ("Calls at once", "Further ones are refused."),
    "outgoing_per_hour": ("Outside calls an hour", "A limit against fraud: further ones are refused."),
    "members": ("Members", "Numbers of extensions, one a line, in the order in which they ring."),
    "strategy": ("Who rings", ""),
    "member_seconds": ("Each rings for, s", "For members that ring one after another."),
    "destination": ("Calls go to", "Extension, group, +number or announcement:NAME."),
    "NumberEntry.number": ("Number", "As the operator sends it, best with + and country."),
    "NumberEntry.ring_seconds": ("Ringing time, s", "After it the call goes on."),
    "ClientEntry.password": ("Password", "12 characters or more."),
    "ClientEntry.login": ("Login", "Unique on this server. Empty: the short name of the office."),
    "trunk": ("Only from the trunk", "Empty: from any."),
    "hours.time_zone": ("Time zone", "Whose clock counts, as Europe/Moscow."),
    "hours.open": ("Open", "Weekdays and times, one period a line: mon-fri 09:00-18:00. The days are mon, tue, wed, "
                           "thu, fri, sat, sun. Empty: always open."),
    "hours.otherwise": ("Outside these hours calls go to", _ONWARD),
    "hours.holidays": ("Holidays", "Closed all day, one date a line: 2026-05-11, or 01-01 for each year."),
    "hours": ("Hours", ""),
    "limits": ("Limits", ""),
    "limits.prefix": ("Numbers that begin with", ""),
    "limits.max_calls": ("Calls at once there", ""),
    "limits.per_hour": ("Calls an hour there", ""),
    "limits.refused": ("No calls there", ""),
    "users": ("Extensions of CRM users", ""),
    "account": ("Account in amoCRM", ""),
    "record": ("Record outside calls", ""),
    "country": ("Country", "How national numbers are read: two letters, as RU."),
    "forward_outside": ("Calls may be sent on to outside numbers", "At your cost."),
    "music_on_hold": ("Music on hold", "Name of a sound. Empty: what the phone that holds sends."),
    "pickup_code": ("Pick-up code", "With a number after it, takes the call that rings there. Empty: nobody may."),
    "group_pickup_code": ("Group pick-up code", "Takes the call that has rung longest at a colleague of one's own "
                                                "groups. Empty: nobody may."),
    "show_callers": ("Lamps show who is talking with whom", "To phones that watch a colleague's."),
    "click2call_answer_after": ("A clicked call is picked up after, s",
                                "By the phone of who has clicked, when it can do that. Empty: it rings."),
    "limit.prefix": ("Numbers that begin with", "As +882, or the digits of a short number."),
    "limit.max_calls": ("Calls at once there", "Empty: no limit."),
    "limit.per_hour": ("Calls an hour there", "Empty: no limit."),
    "limit.refused": ("No calls there", ""),
    **trunk_words.WORDS,
    **crm_words.WORDS,
}

KEPT = "Empty: it stays as it is."     # beside the hint of a password that there may be already

CHOICES: Mapping[str, str] = {
    "": "by default",
    "together": "All together",
    "in-turn": "One after another, as they stand",
    "round": "One after another, each call begins with the next",
    **trunk_words.CHOICES,
    **crm_words.CHOICES,
    "longest-idle": "One after another, first who has been idle longest",
}

# What the core says in the words of an apply file, for people who see fields; "" says nothing more.
IN_PAGES: Mapping[str, str] = {
    "Add `pipeline`.": "Give the pipeline, too.",
    "Add `token`, a long-lived one, or `client_id`, `client_secret` and `redirect_uri` of an integration.":
        "Enter a long-lived token, or id, secret key and redirect address of an integration.",
    "Add `user` and `password`, as the operator gave them.": "Enter user name and password, as the operator gave them.",
    "Add `user`, as the operator gave it.": "Enter the user name, as the operator gave it.",
    "Add `widget`, its code in amoCRM, or say `users_from = \"file\"`.":
        "Enter the code of the widget, or choose the page of users.",
    "Add both `client_id` and `client_secret`, from its tab of keys.": "Enter both, from its tab of keys.",
    "Say \"contact\" or \"nothing\".": "Choose a contact, or nothing.",
    "Say `transport = \"tls\"`, or take it out.": "Choose TLS, or leave it empty.",
    "it is missing": "this has to be filled in",
    "Add `{name} = …`{meaning}.": "",
    "Use {expected}{meaning}.": "Choose another one.",
    "Give {expected}{meaning}.": "Give {expected}.",
    "Write it another way{meaning}.": "See the hint at this field.",
    "text in quotes": "text",
    "a path in quotes": "a path",
    "true or false": "yes or no",
    "a list in [brackets]": "a list",
    "a [table]": "several values",
    "Add `password = …` for phones that register, or `address = \"sip:…\"`.":
        "Give a password for phones that register, or a fixed address. A password goes with its login.",
    "Add a [[client.trunk]].": "Add a trunk first.",
    "Say `forward_outside = true` for client {client!r}, if its extensions shall.":
        "Allow it in the settings of the office, if it shall be so.",
    "Say `forward_outside = true` for client {client!r}, if its numbers shall.":
        "Allow it in the settings of the office, if it shall be so.",
    "Known in {client!r}: {known}; outside numbers begin with +.": "Known are {known}; outside numbers begin with +.",
    "Extensions of {client!r}: {known}.": "Known are {known}.",
    "Trunks of {client!r}: {known}.": "Known are {known}.",
    "Known are {known}; a WAV file in the directory `media.sounds` of smartswitch.toml adds one.": "Known are {known}.",
    "{target} is a number of {client!r} itself: its calls would come in again":
        "{target} is a number of this office: its calls would come in again",
    "{target} is outside, and {client!r} has no trunk": "{target} is outside, and there is no trunk",
    "Take it out, or choose another `strategy`, as \"in-turn\".": "Leave it as it was, or let them ring in turn.",
    "Take it out, or say `strategy = \"together\"`.": "Leave it as it was, or let them ring together.",
    "Add `max_calls`, `per_hour` or `refused = true`.": "Give one of the limits, or refuse all calls there.",
    "Write a number of yours, best with + and country; `hide_caller_id` withholds it.":
        "Write a number of yours, best with + and country.",
    "another client has the login {name!r}": "the login {name} is taken",
    "Give another one, or an argon2id hash; it opens the client's settings from the internet.":
        "Give another one; it opens these pages from the internet.",
    "Write it like `mon-fri 09:00-18:00`; the days are {days}.": "Write it like mon-fri 09:00-18:00.",
    "Write it like `2026-05-11`, or `01-01` for each year.": "Write it like 2026-05-11, or 01-01 for each year.",
    "Choose another `login`.": "Choose another login.",
    "Did you mean `{name}`?": "Did you mean {name}?",
    "Write it like `Europe/Moscow`.": "Write it like Europe/Moscow.",
}

# Things and their kinds, as the log of changes and complaints name them.
KINDS: Mapping[str, str] = {
    "client": "Settings of the office", "CRM of": "CRM", "crm": "CRM", "trunk": "Trunk", "extension": "Extension",
    "group": "Group", "number": "Number",
}


# How phones answer, as b2bua.control.RegisteredPhone has it.
REACHABILITY = ("reachable", "unreachable", "lagged", "not asked yet")


def messages() -> Iterator[str]:
    """All that is said here, for translators."""
    for label, hint in WORDS.values():
        yield from (label, hint) if hint else (label,)
    yield from CHOICES.values()
    yield from (text for text in IN_PAGES.values() if text)
    yield from KINDS.values()
    yield KEPT
    yield from REACHABILITY
