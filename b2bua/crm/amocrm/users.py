"""amoCRM's users (`GET /api/v4/users`), and their extensions in its widget's settings (`GET /api/v4/widgets/CODE`)."""

from __future__ import annotations

import json

from b2bua.crm.amocrm.api import AmoApi
from b2bua.crm.amocrm.gate import Lane
from b2bua.crm.amocrm.rows import Row, as_row, text
from b2bua.crm.port import CrmRejected
from b2bua.crm.users import LONGEST_NAME, MOST_USERS, CrmUser, UserMap, one_line, tidied, user_id

SECONDS = 15.0                         # for a page of 250; nobody waits for it
EXTENSIONS = "extensions"              # the widget's setting of the type `users`
LONGEST_SETTING = 1_000_000            # characters of it, where it comes as text


async def users(api: AmoApi) -> tuple[CrmUser, ...]:
    """All of them, MOST_USERS at most. Raises CrmRejected: the token is not an administrator's."""
    found: dict[int, CrmUser] = {}
    async for row in api.pages("/api/v4/users", "users", (), Lane.SYNC, SECONDS):
        if (user := _user(row)) is not None:
            found[user.id] = user
        if len(found) == MOST_USERS:
            break
    return tuple(found.values())


def _user(row: Row) -> CrmUser | None:
    id_ = user_id(row.get("id"))
    if id_ is None:
        return None
    is_active = as_row(row.get("rights")).get("is_active") is not False        # unsaid is not switched off
    name, email = one_line(text(row, "name"), LONGEST_NAME), one_line(text(row, "email"), LONGEST_NAME)
    return CrmUser(id_, name, is_active, email)


async def extensions(api: AmoApi, widget: str) -> UserMap:
    """Raises CrmRejected: there is no such widget, it is not installed, or it is not this integration's."""
    answer = await api.get(f"/api/v4/widgets/{widget}", (), Lane.SYNC, SECONDS)
    body = as_row(answer.accepted())
    if body.get("is_active_in_account") is False:
        raise CrmRejected("it is not installed")
    settings = body.get("settings")
    if not isinstance(settings, dict) and settings != []:      # PHP writes an empty object so
        raise CrmRejected("its settings are told to its own integration alone, which is not this token's")
    return tidied(_object(as_row(settings).get(EXTENSIONS)))


def _object(value: object) -> dict[object, object]:
    """A setting of the type `users` comes as an object, or as its JSON."""
    if isinstance(value, str) and len(value) <= LONGEST_SETTING:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return dict(value) if isinstance(value, dict) else {}
