"""The token that lets programs of this machine ask the daemon: the command line's key."""

from __future__ import annotations

from hmac import compare_digest

from starlette.requests import Request

from b2bua.keys import Keys
from b2bua.metrics import WebCounters
from web.problems import Problem


class ControlToken:
    def __init__(self, keys: Keys, counters: WebCounters) -> None:
        self._token = keys.control_token.encode()
        self._counters = counters

    def demand(self, request: Request) -> None:
        """Raises Problem."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not compare_digest(token.encode(), self._token):
            self._counters.wrong_tokens += 1
            raise Problem(401, "The control token is wrong or missing",
                          "Send `Authorization: Bearer …` with the content of keys/control in the data directory.",
                          challenge="Bearer")
