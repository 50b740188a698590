"""The OpenAPI description of the widget's API, made of the schemas that its requests are held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from web.widget import schemas
from web.widget.cors import API
from web.widget.problems import LANGUAGES, STATUS

VERSION = "1"
_ALWAYS = ("token_missing", "token_invalid", "token_expired", "token_elsewhere", "not_connected", "too_many",
           "fault", "unavailable")
_WITH_A_BODY = ("malformed", "too_slow", "too_large", "invalid")
_OF_CALLS = ("no_extension",)


@dataclass(frozen=True, slots=True)
class Operation:
    method: str
    path: str                          # below API
    summary: str
    answers: tuple[tuple[int, type[BaseModel]], ...]
    codes: tuple[str, ...]             # of problems, beside those of all
    body: type[BaseModel] | None = None
    waits: bool = False                # `after`: answered when there is something else


OPERATIONS = (
    Operation("POST", "/check", "Tests the connection; changes nothing", ((200, schemas.Connected),),
              ("wrong_password", "password_needed", "not_admin", *_WITH_A_BODY), schemas.Check),
    Operation("POST", "/settings", "Saves the settings, all or none of them", ((200, schemas.Connected),),
              ("wrong_password", "password_needed", "not_admin", "double_extension", "unknown_extension",
               "unknown_user", *_WITH_A_BODY), schemas.Settings),
    Operation("GET", "/settings", "The functions as they are now", ((200, schemas.Saved),), ("not_admin",)),
    Operation("POST", "/calls", "Rings the employee's phone, then calls the number",
              ((202, schemas.Call), (200, schemas.Call)),
              (*_OF_CALLS, "extension_mismatch", "already_calling", "click_too_late", "invalid_number",
               *_WITH_A_BODY), schemas.Click),
    Operation("GET", "/calls", "The employee's calls, for the live card", ((200, schemas.Calls),), _OF_CALLS,
              waits=True),
    Operation("GET", "/calls/{id}", "One of them", ((200, schemas.Call),), (*_OF_CALLS, "no_such_call"), waits=True),
    Operation("DELETE", "/calls/{id}", "Hangs up", ((200, schemas.Call),), (*_OF_CALLS, "no_such_call")),
)


def description(server: str) -> dict[str, Any]:
    """OpenAPI 3.1. `server`: address of this one."""
    modes: set[tuple[type[BaseModel], JsonSchemaMode]] = {(schemas.WidgetProblem, "serialization")}
    modes |= {(operation.body, "validation") for operation in OPERATIONS if operation.body is not None}
    modes |= {(model, "serialization") for operation in OPERATIONS for _, model in operation.answers}
    in_order = sorted(modes, key=lambda one: (one[0].__name__, one[1]))
    refs, defined = models_json_schema(in_order, ref_template="#/components/schemas/{model}")
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(f"{API}{one.path}", {})[one.method.lower()] = _operation(one, refs)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Smartswitch, for its widget", "version": VERSION,
                 "description": "What it means in full is in docs/widget-api.md."},
        "servers": [{"url": server}],
        "security": [{"page": []}],
        "paths": paths,
        "components": {
            "schemas": defined["$defs"],
            "securitySchemes": {"page": {"type": "apiKey", "in": "header", "name": "X-Auth-Token",
                                         "description": "the disposable token of the CRM's page: a JWT, HS256"}},
        },
    }


def _operation(one: Operation, refs: Any) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": "lang", "in": "query", "schema": {"type": "string", "default": "en"},
         "description": f"of titles and notes: {', '.join(LANGUAGES)}; any other is taken for en"}]
    if one.waits:
        parameters.append({"name": "after", "in": "query", "schema": {"type": "string"},
                           "description": "the version that is known: answered when there is another, 25 s at most"})
    if "{id}" in one.path:
        parameters.append({"name": "id", "in": "path", "required": True, "schema": {"type": "string"}})
    answers = {str(status): {"description": "done", "content": {
        "application/json": {"schema": refs[model, "serialization"]}}} for status, model in one.answers}
    made: dict[str, Any] = {"summary": one.summary, "parameters": parameters,
                            "responses": {**answers, **_problems((*_ALWAYS, *one.codes), refs)}}
    if one.body is not None:
        made["requestBody"] = {"required": True, "content": {
            "application/json": {"schema": refs[one.body, "validation"]}}}
    return made


def _problems(codes: Sequence[str], refs: Any) -> dict[str, Any]:
    schema = {"application/problem+json": {"schema": refs[schemas.WidgetProblem, "serialization"]}}
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(STATUS[code], []).append(code)
    return {str(status): {"description": ", ".join(said), "content": schema} for status, said in by_status.items()}
