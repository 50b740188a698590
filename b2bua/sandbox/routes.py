"""Which path and method of the stand-in leads where."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from b2bua.sandbox import (
    account_api,
    calls_api,
    cards_api,
    complex_api,
    events_api,
    links_api,
    notes_api,
    oauth_api,
    pipelines_api,
    pop_ups_api,
    tasks_api,
    unsorted_api,
    webhooks_api,
    widgets_api,
)
from b2bua.sandbox.entities import EntityType

Handler = Callable[[Request], Awaitable[Response]]
_LEADS = "/api/v4/leads"

_TABLE: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/oauth2/access_token", oauth_api.access_token),
    ("POST", "/oauth2/access_token/", oauth_api.access_token),
    ("GET", "/oauth2/account/current/subdomain", oauth_api.current_subdomain),
    ("GET", "/oauth", oauth_api.consent),
    ("GET", "/api/v4/account", account_api.get_account),
    ("GET", "/api/v4/users", account_api.list_users),
    ("GET", "/api/v4/users/{id:int}", account_api.get_user),
    ("POST", "/api/v4/calls", calls_api.add_calls),
    ("POST", "/api/v2/events", pop_ups_api.add_events),
    ("POST", "/api/v2/events/", pop_ups_api.add_events),
    ("GET", "/api/v4/events", events_api.list_events),
    ("GET", "/api/v4/events/{id}", events_api.get_event),
    ("GET", "/api/v4/webhooks", webhooks_api.list_webhooks),
    ("POST", "/api/v4/webhooks", webhooks_api.subscribe),
    ("DELETE", "/api/v4/webhooks", webhooks_api.unsubscribe),
    ("GET", "/api/v4/widgets", widgets_api.list_widgets),
    ("GET", "/api/v4/widgets/{code}", widgets_api.get_widget),
    ("POST", "/api/v4/widgets/{code}", widgets_api.install_widget),
    ("DELETE", "/api/v4/widgets/{code}", widgets_api.uninstall_widget),
    ("GET", "/api/v4/tasks", tasks_api.list_tasks),
    ("POST", "/api/v4/tasks", tasks_api.create_tasks),
    ("PATCH", "/api/v4/tasks", tasks_api.change_tasks),
    ("GET", "/api/v4/tasks/{id:int}", tasks_api.get_task),
    ("PATCH", "/api/v4/tasks/{id:int}", tasks_api.change_task),
    ("POST", f"{_LEADS}/complex", complex_api.add_leads),
    ("GET", f"{_LEADS}/pipelines", pipelines_api.list_pipelines),
    ("GET", f"{_LEADS}/pipelines/{{id:int}}", pipelines_api.get_pipeline),
    ("GET", f"{_LEADS}/pipelines/{{id:int}}/statuses", pipelines_api.list_stages),
    ("GET", f"{_LEADS}/pipelines/{{id:int}}/statuses/{{stage:int}}", pipelines_api.get_stage),
    ("POST", f"{_LEADS}/unsorted/sip", unsorted_api.add_calls),
    ("GET", f"{_LEADS}/unsorted", unsorted_api.list_unsorted),
    ("GET", f"{_LEADS}/unsorted/{{uid}}", unsorted_api.get_unsorted),
    ("POST", f"{_LEADS}/unsorted/{{uid}}/accept", unsorted_api.accept),
    ("DELETE", f"{_LEADS}/unsorted/{{uid}}/decline", unsorted_api.decline),
)

_OF_EACH_TYPE: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "", cards_api.list_cards),
    ("POST", "", cards_api.create_cards),
    ("PATCH", "", cards_api.change_cards),
    ("GET", "/custom_fields", cards_api.list_fields),
    ("GET", "/{id:int}", cards_api.get_card),
    ("PATCH", "/{id:int}", cards_api.change_card),
    ("POST", "/{id:int}/link", links_api.link),
    ("POST", "/{id:int}/unlink", links_api.unlink),
    ("GET", "/{id:int}/links", links_api.list_links),
    ("GET", "/notes", notes_api.list_notes),
    ("POST", "/notes", notes_api.create_notes),
    ("PATCH", "/notes", notes_api.change_notes),
    ("GET", "/{card:int}/notes", notes_api.list_notes),
    ("POST", "/{card:int}/notes", notes_api.create_notes),
    ("PATCH", "/{card:int}/notes", notes_api.change_notes),
    ("GET", "/{card:int}/notes/{id:int}", notes_api.get_note),
    ("PATCH", "/{card:int}/notes/{id:int}", notes_api.change_note),
)


def api_routes() -> list[Route]:
    """One set of routes per type of card, so that an unknown type is a 404."""
    cards = [
        (method, kind.path + path, handler)
        for kind in EntityType for method, path, handler in _OF_EACH_TYPE
    ]
    return [Route(path, handler, methods=[method]) for method, path, handler in (*_TABLE, *cards)]
