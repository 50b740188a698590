"""schemathesis asks the widget's API whatever its OpenAPI description allows and forbids, and judges by it."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path

import pytest

from tests.support.widget_site import PASSWORD, open_widget_site
from web import lockout
from web.widget import api, door, waiters

# What a description cannot say: whether there is such an extension or user, which number can be called, and how long a
# body may be. A call that was hung up can still be asked for, as the page shows how it has ended.
CONFIG = f"""\
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "422"]
negative_data_rejection.expected-statuses = ["4xx"]
use_after_free.enabled = false

[dictionaries]
login.values = ["acme"]
password.values = ["{PASSWORD}"]
extension.values = ["101"]
phone.values = ["+7 495 123-45-67", "101"]
call.values = ["c-1"]

[parameters]
"body.login" = {{ dictionary = "login", probability = 0.5 }}
"body.password" = {{ dictionary = "password", probability = 0.5 }}
"body.extension" = {{ dictionary = "extension", probability = 0.5 }}
"body.phone" = {{ dictionary = "phone", probability = 0.5 }}
"path.id" = {{ dictionary = "call", probability = 0.5 }}
"""


@pytest.mark.patience(180)
async def test_answers_are_as_the_description_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("PER_ADDRESS", "PER_CLIENT", "PER_USER"):
        monkeypatch.setattr(door, limit, 1_000_000)
    monkeypatch.setattr(lockout, "FREE_FAILURES", 1_000_000)
    monkeypatch.setattr(api, "CROWD_FAILURES", 1_000_000)
    monkeypatch.setattr(waiters, "LONGEST_WAIT", 0.01)
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    async with open_widget_site(tmp_path) as site:
        url = f"http://127.0.0.1:{site.port}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run",
            f"{url}/widget/v1/openapi.json", "--url", url, "--header", f"X-Auth-Token: {site.token()}", "--seed", "5",
            "--max-examples", "30", "--generation-database", "none", "--no-color",
            cwd=tmp_path, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
