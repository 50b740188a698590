"""`/_fake/`: what a test or a person does to the stand-in: seed it, move its clock, break it, read its journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from b2bua.sandbox.account import Account
from b2bua.sandbox.answers import Refused, as_json, json_body
from b2bua.sandbox.entities import EntityType, Json
from b2bua.sandbox.faults import Fault
from b2bua.sandbox.journal import JournalEntry
from b2bua.sandbox.presets import PRESETS
from b2bua.sandbox.rate import Rate
from b2bua.sandbox.seed import SeedCompany, SeedContact, SeedCustomer, SeedLead
from b2bua.sandbox.state import SandboxState
from b2bua.sandbox.switches import Switches

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _Seed:
    account: str | None = None
    contacts: tuple[SeedContact, ...] = ()
    companies: tuple[SeedCompany, ...] = ()
    leads: tuple[SeedLead, ...] = ()
    customers: tuple[SeedCustomer, ...] = ()


def routes() -> list[Route]:
    table: list[tuple[str, str, Handler]] = [
        ("GET", "journal", journal), ("DELETE", "journal", clear_journal),
        ("GET", "clock", clock), ("POST", "clock", move_clock),
        ("GET", "faults", faults), ("POST", "faults", add_fault), ("DELETE", "faults", clear_faults),
        ("GET", "switches", switches), ("POST", "switches", set_switches),
        ("POST", "seed", seed), ("GET", "cards", cards), ("GET", "popups", pop_ups), ("GET", "state", state_of),
        ("GET", "rate", rate), ("DELETE", "rate", forget_rate), ("POST", "block", block), ("POST", "unblock", unblock),
    ]
    return [Route(f"/_fake/{path}", handler, methods=[method]) for method, path, handler in table]


def sandbox_of(request: Request) -> SandboxState:
    state = request.app.state.sandbox
    assert isinstance(state, SandboxState)
    return state


def account_of(request: Request, subdomain: object) -> Account:
    """The first one when none is named. Raises Refused."""
    state = sandbox_of(request)
    if subdomain is not None and subdomain not in [account.subdomain for account in state.accounts.values()]:
        raise Refused(400, f"{subdomain}: no such account")
    return state.account(subdomain if isinstance(subdomain, str) else None)


def answer(body: object) -> Response:
    return Response(as_json(plain(body)), media_type="application/json")


def plain(value: object) -> object:
    """What JSON can say of it."""
    match value:
        case Enum():
            return value.value
        case dict():
            return {str(plain(key)): plain(one) for key, one in value.items()}
        case list() | tuple() | set():
            return [plain(one) for one in value]
        case _:
            return value


async def journal(request: Request) -> Response:
    """`?method=&path=&account=`; the path's beginning is enough. `count` of them, and who broke which rule."""
    asked, state = request.query_params, sandbox_of(request)
    found = state.journal.of(asked.get("method"), asked.get("path", ""), asked.get("account"))
    return answer({
        "entries": [_entry(entry) for entry in found], "count": len(found), "dropped": state.journal.dropped,
        "highest_rate": _rate(request).highest, "warnings": state.journal.warnings,
    })


async def clear_journal(request: Request) -> Response:
    sandbox_of(request).journal.clear()
    return answer({})


async def clock(request: Request) -> Response:
    return answer({"now": sandbox_of(request).clock.now(), "offset": sandbox_of(request).clock.offset})


async def move_clock(request: Request) -> Response:
    """`{"advance": seconds}` or `{"now": seconds since 1970}`"""
    body, known = await object_body(request), sandbox_of(request).clock
    for name, move in (("advance", known.advance), ("now", known.set)):
        seconds = body.get(name)
        if isinstance(seconds, int | float) and not isinstance(seconds, bool):
            move(seconds)
            return await clock(request)
    raise Refused(400, "advance: a number of seconds is expected")


async def faults(request: Request) -> Response:
    rows = [{name: value for name, value in asdict(fault).items() if name != "then"}
            for fault in sandbox_of(request).faults]
    return answer({"faults": rows, "presets": list(PRESETS)})


async def add_fault(request: Request) -> Response:
    """The fields of faults.Fault; `preset` names one whose fields are meant where none are given."""
    body = await object_body(request)
    name = body.pop("preset", None)
    if name is not None and name not in PRESETS:
        raise Refused(400, f"{name}: no such preset")
    given = {**asdict(PRESETS[str(name)]), **body} if name is not None else body
    sandbox_of(request).faults.add(made(Fault, given))
    return await faults(request)


async def clear_faults(request: Request) -> Response:
    sandbox_of(request).faults.clear()
    return answer({})


async def switches(request: Request) -> Response:
    return answer(asdict(sandbox_of(request).switches))


async def set_switches(request: Request) -> Response:
    state = sandbox_of(request)
    state.switches = made(Switches, {**asdict(state.switches), **await object_body(request)})
    return await switches(request)


async def seed(request: Request) -> Response:
    """`{"account": "acme", "contacts": [{"name": ..., "phones": [...]}], "companies": [...], "leads": [...]}`"""
    state, given = sandbox_of(request), made(_Seed, await object_body(request))
    account = account_of(request, given.account)
    state.add_cards(account, EntityType.CONTACTS, given.contacts)
    state.add_cards(account, EntityType.COMPANIES, given.companies)
    try:
        for lead in given.leads:
            state.add_lead(account, lead)
        for customer in given.customers:
            state.add_customer(account, customer)
    except KeyError as error:
        raise Refused(400, f"{error}: what it hangs on is not there") from error
    return await cards(request)


async def cards(request: Request) -> Response:
    rows = [asdict(card) for card in sandbox_of(request).cards(_named(request))]
    return answer({"cards": rows})


async def pop_ups(request: Request) -> Response:
    shown = sandbox_of(request).pop_ups(_named(request))
    rows = [{"at": one.at, "phone": one.phone, "users": one.users, "card": one.entity_id} for one in shown]
    return answer({"popups": rows})


async def state_of(request: Request) -> Response:
    """All that an account holds, by `?account=`."""
    state, named = sandbox_of(request), _named(request)
    account = state.account(named)
    parts: dict[str, Callable[[str | None], Sequence[DataclassInstance]]] = {
        "contacts": state.contacts, "companies": state.companies, "leads": state.leads, "customers": state.customers,
        "tasks": state.tasks, "notes": state.notes, "unsorted": state.unsorted, "pop_ups": state.pop_ups,
    }
    return answer({
        "account": {
            "id": account.id, "subdomain": account.subdomain, "is_unsorted_on": account.is_unsorted_on,
            "has_duplicate_control": account.has_duplicate_control,
        },
        "users": [asdict(user) for user in account.users.values()],
        **{name: [asdict(row) for row in rows_of(named)] for name, rows_of in parts.items()},
    })


async def rate(request: Request) -> Response:
    """The highest of any sliding second: of one integration, and of each account."""
    known, accounts = _rate(request), sandbox_of(request).accounts
    by_account = {accounts[number].subdomain: highest for number, highest in known.highest_of.items()}
    return answer({"highest": known.highest, "accounts": by_account, "is_blocked": known.is_blocked})


async def forget_rate(request: Request) -> Response:
    _rate(request).forget()
    return answer({})


async def block(request: Request) -> Response:
    """As amoCRM does with who insists: 403 for everything, until `unblock`."""
    _rate(request).block()
    return answer({})


async def unblock(request: Request) -> Response:
    _rate(request).unblock()
    return answer({})


async def object_body(request: Request) -> Json:
    body = await json_body(request, may_be_empty=True)
    if not isinstance(body, dict):
        raise Refused(400, "An object is expected")
    return body


def made(kind: type[T], given: Json) -> T:
    """A value of that dataclass. Raises Refused."""
    unknown = set(given) - {field.name for field in fields(kind)}      # type: ignore[arg-type]
    if unknown:
        raise Refused(400, f"unknown: {', '.join(sorted(unknown))}")
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        raise Refused(400, str(error)) from error


def _named(request: Request) -> str | None:
    return account_of(request, request.query_params.get("account")).subdomain


def _rate(request: Request) -> Rate:
    known = request.app.state.rate
    assert isinstance(known, Rate)
    return known


def _entry(entry: JournalEntry) -> Json:
    return {
        "at": entry.at, "method": entry.method, "path": entry.path, "query": entry.query,
        "headers": dict(entry.headers), "body": entry.body.decode("utf-8", "replace"), "status": entry.status,
        "answer": entry.answer.decode("utf-8", "replace"), "warnings": entry.warnings, "account": entry.account,
        "client_id": entry.client_id,
    }
