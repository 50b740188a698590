"""`/api/v4/widgets` of the stand-in: installed or not, and the settings for the owner's token only."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from b2bua.sandbox.account import Widget
from b2bua.sandbox.answers import Caller, Refused, administrators_only, caller_of, hal, json_body, nothing, page
from b2bua.sandbox.entities import Json


async def list_widgets(request: Request) -> Response:
    caller = caller_of(request)
    return page(request, "widgets", list(caller.account.widgets.values()), lambda widget: _row(caller, widget))


async def get_widget(request: Request) -> Response:
    return hal(_row(caller_of(request), _widget(request)))


async def install_widget(request: Request) -> Response:
    """The body is the settings."""
    administrators_only(request)
    widget, settings = _widget(request), await json_body(request, may_be_empty=True)
    if not isinstance(settings, dict):
        raise Refused(400, "An object is expected")
    widget.is_active, widget.settings = True, settings
    return hal(_row(caller_of(request), widget))


async def uninstall_widget(request: Request) -> Response:
    administrators_only(request)
    _widget(request).is_active = False
    return nothing()


def _widget(request: Request) -> Widget:
    widget = caller_of(request).account.widgets.get(request.path_params["code"])
    if widget is None:
        raise Refused(404, "Widget not found")
    return widget


def _row(caller: Caller, widget: Widget) -> Json:
    row: Json = {
        "id": widget.id,
        "code": widget.code,
        "version": "1.0.0",
        "rating": "0",
        "settings_template": [
            {"key": name, "name": name, "type": "users" if isinstance(value, dict) else "text", "is_required": False}
            for name, value in widget.settings.items()
        ],
        "is_lead_source": False,
        "is_work_with_dp": False,
        "is_crm_template": False,
        "client_uuid": widget.client_id,
        "is_active_in_account": widget.is_active,
        "pipeline_id": None,
        "_links": caller.self_link(f"/api/v4/widgets/{widget.code}"),
    }
    if caller.client_id == widget.client_id:
        row["settings"] = widget.settings
    return row
