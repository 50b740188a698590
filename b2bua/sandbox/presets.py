"""The failures of amoCRM that are known from life, by name, ready to be added to the faults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from b2bua.sandbox.faults import Act, Fault

BLOCKED = "<html><head><title>403 Forbidden</title></head><body><center><h1>403 Forbidden</h1></center></body></html>"
_LARGE = 64 * 1024 * 1024


def _html(status: int, title: str, *, committed: bool = False) -> Fault:
    page = f"<html><head><title>{status} {title}</title></head><body><center><h1>{status} {title}</h1></center></body>"
    return Fault(act=Act.ANSWER, status=status, body=page, content_type="text/html", committed=committed)


_TRACE = json.dumps({"title": "Internal Server Error", "detail": "Something went wrong", "trace_id": "4bf92f35"})
_LIMITED = json.dumps({
    "title": "Too Many Requests", "type": "https://httpstatus.es/429", "status": 429, "detail": "Too many requests",
    "retry_after": 300,
})

PRESETS: Mapping[str, Fault] = {
    "refused": Fault(act=Act.REFUSE),
    "reset": Fault(act=Act.RESET),
    "reset-after-commit": Fault(act=Act.RESET, committed=True),
    "502-after-commit": _html(502, "Bad Gateway", committed=True),
    "504-after-commit": _html(504, "Gateway Time-out", committed=True),
    "slow": Fault(delay=0.5),
    "slower": Fault(delay=5.0),
    "slowest": Fault(delay=60.0),
    "silence": Fault(act=Act.SILENCE),
    "silence-after-commit": Fault(act=Act.SILENCE, committed=True),
    "cut": Fault(act=Act.CUT, committed=True),
    "500": Fault(act=Act.ANSWER, status=500, body=_TRACE, content_type="application/json"),
    "502": _html(502, "Bad Gateway"),
    "503": _html(503, "Service Temporarily Unavailable"),
    "504": _html(504, "Gateway Time-out"),
    "429-json": Fault(act=Act.ANSWER, status=429, body=_LIMITED, content_type="application/problem+json"),
    "429-text": Fault(act=Act.ANSWER, status=429, body="Too many requests", content_type="text/plain"),
    "429-retry-after": Fault(
        act=Act.ANSWER, status=429, body="Too many requests", content_type="text/plain", headers={"Retry-After": "30"}
    ),
    "blocked": Fault(act=Act.ANSWER, status=403, body=BLOCKED, content_type="text/html"),
    "401": Fault(act=Act.ANSWER, status=401),
    "402": Fault(act=Act.ANSWER, status=402),
    "wrong-json": Fault(act=Act.ANSWER, status=200, body='{"_embedded": {"', content_type="application/hal+json"),
    "other-json": Fault(act=Act.ANSWER, status=200, body='["?", null]', content_type="application/hal+json"),
    "empty": Fault(act=Act.ANSWER, status=200, body="", content_type="application/hal+json"),
    "bom": Fault(act=Act.BOM, committed=True),
    "large": Fault(act=Act.ANSWER, status=200, body="{}", content_type="application/hal+json", size=_LARGE),
}


def preset(
    name: str, path: str = "*", method: str = "*", *, skip: int = 0, times: int | None = None, every: int = 1,
    probability: float = 1.0, account: str | None = None,
) -> Fault:
    """A new fault of that name for these requests. Raises KeyError."""
    known = PRESETS[name]
    return replace(
        known, path=path, method=method, skip=skip, times=times, every=every, probability=probability, account=account,
        headers=dict(known.headers),
    )
