"""`/api/v4/account` and `/api/v4/users` of the stand-in."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from b2bua.sandbox.answers import Refused, administrators_only, caller_of, hal, page
from b2bua.sandbox.entities import Json, User
from b2bua.sandbox.tasks_api import TASK_TYPES


async def get_account(request: Request) -> Response:
    caller = caller_of(request)
    account = caller.account
    asked = set(request.query_params.get("with", "").split(","))
    body: Json = {
        "id": account.id,
        "name": account.name,
        "subdomain": account.subdomain,
        "created_at": account.created_at,
        "created_by": 0,
        "updated_at": account.created_at,
        "updated_by": 0,
        "current_user_id": caller.user,
        "country": "RU",
        "currency": "RUB",
        "currency_symbol": "₽",
        "customers_mode": "segments",
        "is_unsorted_on": account.is_unsorted_on,
        "mobile_feature_version": 0,
        "is_loss_reason_enabled": True,
        "is_helpbot_enabled": False,
        "is_technical_account": False,
        "contact_name_display_order": 1,
        "_links": caller.self_link("/api/v4/account"),
    }
    if "version" in asked:
        body["version"] = 15
    if "amojo_id" in asked:
        body["amojo_id"] = f"{account.id:032x}"
    if "is_api_filter_enabled" in asked:
        body["is_api_filter_enabled"] = caller.state.switches.has_filters
    parts: Json = {
        "users_groups": [{"id": 0, "name": "Отдел продаж", "uuid": None}],
        "task_types": list(TASK_TYPES),
        "datetime_settings": {
            "date_pattern": "d.m.Y H:i", "short_date_pattern": "d.m.Y", "short_time_pattern": "H:i",
            "date_format": "d.m.Y", "time_format": "H:i:s", "timezone": "Europe/Moscow", "timezone_offset": "+03:00",
        },
        "entity_names": {"leads": {"ru": {"gender": "f", "plural_form": {}, "singular_form": {}}}},
    }
    if embedded := {name: part for name, part in parts.items() if name in asked}:
        body["_embedded"] = embedded
    return hal(body)


async def list_users(request: Request) -> Response:
    _check_rights(request)
    users = list(caller_of(request).account.users.values())
    return page(request, "users", users, lambda user: _user(request, user), totals=True)


async def get_user(request: Request) -> Response:
    _check_rights(request)
    user = caller_of(request).account.users.get(request.path_params["id"])
    if user is None:
        raise Refused(404, "User not found")
    return hal(_user(request, user))


def _check_rights(request: Request) -> None:
    """Raises Refused."""
    if caller_of(request).is_external:
        raise Refused(403, "External integrations may not ask for users")
    administrators_only(request)


def _user(request: Request, user: User) -> Json:
    asked = set(request.query_params.get("with", "").split(","))
    rights = {"view": "A", "edit": "A", "add": "A", "delete": "A", "export": "A"}
    row: Json = {
        "id": user.id,
        "name": user.name,
        "email": user.email or f"user{user.id}@example.org",
        "lang": "ru",
        "rights": {
            "leads": rights, "contacts": rights, "companies": rights, "tasks": {"edit": "A", "delete": "A"},
            "mail_access": False, "catalog_access": False, "files_access": False, "status_rights": [],
            "is_admin": user.is_admin, "is_free": False, "is_active": user.is_active, "group_id": 0, "role_id": None,
        },
        "_links": caller_of(request).self_link(f"/api/v4/users/{user.id}"),
    }
    more = {"uuid": f"{user.id:032x}", "amojo_id": f"{user.id:032x}", "user_rank": None, "phone_number": None}
    row.update({name: value for name, value in more.items() if name in asked})
    parts = {"role": ("roles", []), "group": ("groups", [{"id": 0, "name": "Отдел продаж"}])}
    if embedded := {name: rows for part, (name, rows) in parts.items() if part in asked}:
        row["_embedded"] = embedded
    return row
