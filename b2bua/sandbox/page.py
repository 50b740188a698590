"""The stand-in's page for people: cards with their calls, playable, tasks, unsorted leads, pop-ups, requests."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from b2bua.sandbox.account import Account
from b2bua.sandbox.entities import Fate, ShownPopUp, Task
from b2bua.sandbox.journal import JournalEntry
from b2bua.sandbox.state import SandboxState
from b2bua.sandbox.views import CallEntry, Card, user_name

SHOWN_CARDS, SHOWN_CALLS, SHOWN_POP_UPS, SHOWN_TASKS, SHOWN_REQUESTS = 200, 50, 20, 50, 30
_TALKED = 4
_KINDS = {"contacts": "Контакт", "companies": "Компания", "leads": "Сделка", "customers": "Покупатель"}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; media-src http: https:; base-uri 'none'; form-action 'none'"

_STYLE = """
:root { color-scheme: light dark; --ground: #f4f6f9; --card: #fff; --ink: #1c2733; --quiet: #66717e; --line: #dfe4ea;
  --in: #1f7a4d; --out: #2158b8; --missed: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ground: #12171d; --card: #1b222b; --ink: #e4e9ef; --quiet: #94a0ad;
  --line: #2c3641; --in: #63c795; --out: #82adf5; --missed: #f28b82; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.35rem; margin: 0; } h2 { font-size: 1rem; margin: 2rem 0 .6rem; color: var(--quiet); }
h3 { font-size: 1.05rem; margin: 0; } .quiet { color: var(--quiet); font-size: .88rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; margin: .7rem 0;
  overflow: hidden; }
.card > header { padding: .8rem 1rem; display: flex; flex-wrap: wrap; gap: .1rem 1rem; align-items: baseline; }
.card > header .quiet:last-child { margin-left: auto; }
.call { border-top: 1px solid var(--line); padding: .6rem 1rem; display: flex; flex-wrap: wrap; gap: .2rem .9rem;
  align-items: center; }
.call b { font-weight: 600; } .in { color: var(--in); } .out { color: var(--out); } .missed { color: var(--missed); }
.call audio { width: 100%; height: 2.2rem; margin-top: .3rem; } .call time { margin-left: auto; }
ul { margin: 0; padding: 0 1rem 0 2rem; } .card > ul { padding-block: .7rem; }
"""


async def home(request: Request) -> Response:
    state: SandboxState = request.app.state.sandbox
    body = "".join(_account(state, account.subdomain, account.name) for account in state.accounts.values())
    body += _list("Последние запросы", [_request(entry) for entry in state.journal], SHOWN_REQUESTS)
    document = (
        '<!doctype html><html lang="ru"><head><meta charset="utf-8"><title>amoCRM (песочница)</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main>{body}</main></body></html>"
    )
    return HTMLResponse(document, headers={"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"})


def _account(state: SandboxState, subdomain: str, name: str) -> str:
    account, cards = state.account(subdomain), state.cards(subdomain)
    newest = sorted(cards, key=lambda card: (-max((call.created_at for call in card.entries), default=0), card.id))
    waiting = [one for one in account.unsorted.values() if one.fate is Fate.OPEN]
    widgets = [f"{code}: {'включён' if one.is_active else 'выключен'}" for code, one in account.widgets.items()]
    return (
        f'<header><h1>{escape(name)}</h1><div class="quiet">{escape(subdomain)} · стенд вместо amoCRM: '
        f"карточек {len(cards)}, звонков {sum(len(card.entries) for card in cards)}, задач {len(account.tasks)}"
        f"{escape(''.join(f', виджет {widget}' for widget in widgets))}</div></header>"
        + "".join(_card(card) for card in newest[:SHOWN_CARDS])
        + _list("Неразобранное", [
            f"{_time(one.created_at)}: {escape(one.phone)} ({escape(one.source_name)})" for one in waiting
        ])
        + _list("Задачи", [_task(account, task) for task in account.tasks.values()])
        + _list("Всплывающие карточки", [_pop_up(account, one) for one in account.pop_ups], SHOWN_POP_UPS)
        + _list("Вебхуки", [
            f"{escape(hook.destination)}: {escape(', '.join(hook.settings))}{' (отключён)' if hook.is_disabled else ''}"
            for hook in account.webhooks.by_destination.values()
        ])
    )


def _list(title: str, rows: list[str], most: int = SHOWN_TASKS) -> str:
    """The newest first; nothing when there are none. The rows are HTML."""
    items = "".join(f"<li>{row}</li>" for row in reversed(rows[-most:]))
    return f'<h2>{title}</h2><section class="card"><ul>{items}</ul></section>' if rows else ""


def _task(account: Account, task: Task) -> str:
    state = f"закрыта{': ' + task.result if task.result else ''}" if task.is_completed else "открыта"
    return (
        f"{escape(task.text)} → {escape(user_name(account, task.responsible_user_id))}, "
        f"до {_time(task.complete_till)} ({escape(state)})"
    )


def _pop_up(account: Account, shown: ShownPopUp) -> str:
    users = ", ".join(user_name(account, user) for user in shown.users)
    return f"{_time(shown.at)}: {escape(shown.phone)} → {escape(users)}"


def _request(entry: JournalEntry) -> str:
    warnings = f' <span class="missed">{escape("; ".join(entry.warnings))}</span>' if entry.warnings else ""
    return f"{_time(int(entry.at))}: {escape(str(entry))}{warnings}"


def _card(card: Card) -> str:
    calls = "".join(_call(call) for call in reversed(card.entries[-SHOWN_CALLS:]))
    calls = calls or '<div class="call quiet">Звонков ещё не было</div>'
    about = ", ".join(card.people + card.phones)
    return (
        f'<section class="card"><header><h3>{escape(card.name or "Без имени")}</h3>'
        f'<span class="quiet">{_KINDS[card.type.value]}</span><span>{escape(about)}</span>'
        f'<span class="quiet">Ответственный: {escape(card.responsible)}</span></header>{calls}</section>'
    )


def _call(call: CallEntry) -> str:
    is_in, talked = call.direction == "inbound", call.status == _TALKED
    arrow, style = ("↙ Входящий", "in") if is_in else ("↗ Исходящий", "out")
    said = f"{call.talk_seconds // 60}:{call.talk_seconds % 60:02d}" if talked else call.result or "без ответа"
    player = ""
    if call.link is not None and call.link.startswith(("http://", "https://")):
        player = f'<audio controls preload="none" src="{escape(call.link)}"></audio>'
    return (
        f'<div class="call"><b class="{style if talked else "missed"}">{arrow}</b><span>{escape(call.phone)}</span>'
        f"<span>{escape(call.user_name)}</span><span>{escape(said)}</span>"
        f'<time class="quiet">{_time(call.created_at)}</time>{player}</div>'
    )


def _time(at: int) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%d.%m.%Y %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):           # whatever was written into a note
        return "—"
