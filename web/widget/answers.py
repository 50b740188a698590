"""Answers of the widget's API."""

from __future__ import annotations

from pydantic import BaseModel
from starlette.responses import Response

from web.pages import NO_STORE


def answer(said: BaseModel, status: int = 200) -> Response:
    return Response(said.model_dump_json(), status, NO_STORE, "application/json")
