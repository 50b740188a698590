"""What the writes to one account share: which card, in whose name, what was made before, what is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from b2bua.cdr import CallId
from b2bua.crm.amocrm import contacts
from b2bua.crm.amocrm.api import AmoApi, Answer
from b2bua.crm.amocrm.gate import Lane
from b2bua.crm.amocrm.rows import PATHS, Row, text
from b2bua.crm.port import Contact, EntityKind, Made, MadeKind
from b2bua.numbers import is_anonymous, is_short, normalise, same_number

SOURCE = "Smartswitch"                 # the service that a card names
WRITE_SECONDS = 30.0
MOST_OF_OURS = 3                       # contacts of one number that we have made, the newest: older ones were deleted
GONE = (204, 404)                      # no such id: deleted, merged into another, accepted, declined
USER_FIELDS = ("created_by", "responsible_user_id", "call_responsible")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Desk:
    """One account, as the writes see it."""

    api: AmoApi
    country: str                       # how numbers without a country code are read
    default_user: int | None
    link_of: Callable[[str], str]      # recording id -> the link that the card plays


def is_nobodys(phone: str) -> bool:
    """No number to find or make a card by."""
    return is_anonymous(phone) or is_short(phone)


def made_for(known: Iterable[Made], kind: MadeKind, call: CallId) -> Made | None:
    return next((made for made in known if made.kind is kind and made.call == call), None)


def users(*wanted: int | None) -> list[int | None]:
    """In the order to try, as any may have left since; then nobody, which leaves it to amoCRM."""
    return [*dict.fromkeys(user for user in wanted if user is not None), None]


def path_of(card: Contact) -> str:
    return f"{PATHS[card.kind]}/{card.id}"


async def post_as(
    desk: Desk, path: str, body_of: Callable[[int | None], Row], candidates: Sequence[int | None]
) -> Answer:
    """One thing, in the name of the first whom amoCRM takes: it refuses the whole when a user was removed."""
    *others, last = candidates
    for user in others:
        answer = await desk.api.post(path, [body_of(user)], Lane.WRITE, WRITE_SECONDS)
        if not is_refused_for(answer, USER_FIELDS):
            return answer
        log.warning("amoCRM does not take this user", path=path, user=user, why=answer.complaint())
    return await desk.api.post(path, [body_of(last)], Lane.WRITE, WRITE_SECONDS)


def is_refused_for(answer: Answer, fields: Iterable[str]) -> bool:
    """Whether these fields are all that amoCRM has against it."""
    paths = {text(error, "path").rpartition(".")[2] for error in answer.validation_errors()}
    return answer.status == 400 and bool(paths) and paths <= set(fields)


async def read(desk: Desk, path: str) -> Row | None:
    """One thing by its id; None when it is gone."""
    answer = await desk.api.get(path, [], Lane.WRITE, WRITE_SECONDS)
    return None if answer.status in GONE else answer.row()


def has_number(row: Row, phone: str, country: str) -> bool:
    return any(same_number(phone, normalise(written, country)) for written in contacts.phones_of(row))


async def contact_of_ours(desk: Desk, phone: str, known: Iterable[Made]) -> Contact | None:
    """One that we have made and that still has the number: amoCRM's search finds it only after a while."""
    ours = [made.id for made in known if made.kind is MadeKind.CONTACT]
    for number in ours[:MOST_OF_OURS]:
        row = await read(desk, f"/api/v4/contacts/{number}")
        if row is not None and has_number(row, phone, desk.country):
            return contacts.as_contact(EntityKind.CONTACT, row)
    return None


async def card_of(desk: Desk, phone: str, known: Iterable[Made]) -> Contact | None:
    """Whose number it is, by the rules of a lookup; asked anew each time, as cards are merged and deleted."""
    found = await contacts.find(desk.api, phone, desk.country, Lane.WRITE)
    return found or await contact_of_ours(desk, phone, known)
