"""`/_fake/`: what a test or a person does to the stand-in: seed it, move its clock, break it, read its journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, fields
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from b2bua.sandbox.answers import Refused, as_json, json_body
from b2bua.sandbox.door import Rate
from b2bua.sandbox.entities import EntityType, Json
from b2bua.sandbox.faults import Fault
from b2bua.sandbox.journal import JournalEntry
from b2bua.sandbox.seed import SeedCompany, SeedContact, SeedLead
from b2bua.sandbox.state import SandboxState, Switches

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Seed:
    account: str | None = None
    contacts: tuple[SeedContact, ...] = ()
    companies: tuple[SeedCompany, ...] = ()
    leads: tuple[SeedLead, ...] = ()


def routes() -> list[Route]:
    table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "journal", journal), ("DELETE", "journal", clear_journal),
        ("GET", "clock", clock), ("POST", "clock", move_clock),
        ("GET", "faults", faults), ("POST", "faults", add_fault), ("DELETE", "faults", clear_faults),
        ("GET", "switches", switches), ("POST", "switches", set_switches),
        ("POST", "seed", seed), ("GET", "cards", cards), ("GET", "popups", pop_ups), ("POST", "unblock", unblock),
    ]
    return [Route(f"/_fake/{path}", handler, methods=[method]) for method, path, handler in table]


def sandbox_of(request: Request) -> SandboxState:
    state = request.app.state.sandbox
    assert isinstance(state, SandboxState)
    return state


def answer(body: object) -> Response:
    return Response(as_json(body), media_type="application/json")


async def journal(request: Request) -> Response:
    """All, or those whose path begins with `?path=`."""
    begin = request.query_params.get("path", "")
    entries = [_entry(entry) for entry in sandbox_of(request).journal if entry.path.startswith(begin)]
    rate: Rate = request.app.state.rate
    return answer({"entries": entries, "dropped": sandbox_of(request).journal.dropped, "highest_rate": rate.highest})


async def clear_journal(request: Request) -> Response:
    sandbox_of(request).journal.clear()
    return answer({})


async def clock(request: Request) -> Response:
    return answer({"now": sandbox_of(request).clock.now(), "offset": sandbox_of(request).clock.offset})


async def move_clock(request: Request) -> Response:
    """`{"advance": seconds}`"""
    seconds = (await _object(request)).get("advance")
    if not isinstance(seconds, int | float):
        raise Refused(400, "advance: a number of seconds is expected")
    sandbox_of(request).clock.advance(seconds)
    return await clock(request)


async def faults(request: Request) -> Response:
    return answer({"faults": [{**asdict(fault), "act": fault.act.value} for fault in sandbox_of(request).faults]})


async def add_fault(request: Request) -> Response:
    """The fields of faults.Fault."""
    sandbox_of(request).faults.add(_made(Fault, await _object(request)))
    return await faults(request)


async def clear_faults(request: Request) -> Response:
    sandbox_of(request).faults.clear()
    return answer({})


async def switches(request: Request) -> Response:
    return answer(asdict(sandbox_of(request).switches))


async def set_switches(request: Request) -> Response:
    state = sandbox_of(request)
    state.switches = _made(Switches, {**asdict(state.switches), **await _object(request)})
    return await switches(request)


async def seed(request: Request) -> Response:
    """`{"account": "acme", "contacts": [{"name": ..., "phones": [...]}], "companies": [...], "leads": [...]}`"""
    state, given = sandbox_of(request), _made(_Seed, await _object(request))
    if given.account not in (None, *(account.subdomain for account in state.accounts.values())):
        raise Refused(400, f"{given.account}: no such account")
    account = state.account(given.account)
    state.add_cards(account, EntityType.CONTACTS, given.contacts)
    state.add_cards(account, EntityType.COMPANIES, given.companies)
    for lead in given.leads:
        state.add_lead(account, lead)
    return await cards(request)


async def cards(request: Request) -> Response:
    rows = [{**asdict(card), "type": card.type.value} for card in sandbox_of(request).cards()]
    return answer({"cards": rows})


async def pop_ups(request: Request) -> Response:
    shown = sandbox_of(request).pop_ups()
    rows = [{"at": one.at, "phone": one.phone, "users": one.users, "card": one.entity_id} for one in shown]
    return answer({"popups": rows})


async def unblock(request: Request) -> Response:
    request.app.state.rate.unblock()
    return answer({})


async def _object(request: Request) -> Json:
    body = await json_body(request)
    if not isinstance(body, dict):
        raise Refused(400, "An object is expected")
    return body


def _made(kind: type[T], given: Json) -> T:
    """A value of that dataclass. Raises Refused."""
    unknown = set(given) - {field.name for field in fields(kind)}      # type: ignore[arg-type]
    if unknown:
        raise Refused(400, f"unknown: {', '.join(sorted(unknown))}")
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        raise Refused(400, str(error)) from error


def _entry(entry: JournalEntry) -> Json:
    return {
        "at": entry.at, "method": entry.method, "path": entry.path, "query": entry.query,
        "headers": dict(entry.headers), "body": entry.body.decode("utf-8", "replace"), "status": entry.status,
        "answer": entry.answer.decode("utf-8", "replace"), "warnings": entry.warnings,
    }
