#!/usr/bin/env python3
"""click2call as the page asks for it: from the HTTP request to the INVITE on the wire, as the phone's socket gets it.

The daemon as an operator starts it, on a CPU of its own: the page's token is checked (a JWT), who may ask how often,
the body, and whose extension it is; then the phone, which is busy, is called. One request after another, over
connections that stay open, as a browser's do. TLS is a proxy's, and not in it.

  .venv/bin/python bench/click_http.py [--clicks 300] [--json]
"""
from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from uuid import uuid4

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jwt  # noqa: E402
from argon2 import PasswordHasher  # noqa: E402
from clicks import busy_phone, told  # noqa: E402

CPUS = sorted(os.sched_getaffinity(0))     # the first is the daemon's, the last ours
HERE, PHONE, TRUNK, CRM = "127.0.79.1", "127.0.79.2", "127.0.79.3", "http://127.0.79.4:1"
WEB = f"http://{HERE}:8080"
CLIENTS = 10                              # each may click 60 times a minute
WARM_UP = 20
MOST_CLICKS = 60 * CLIENTS - WARM_UP
USER, PASSWORD = 77, "a password of the bench"
READY_WITHIN, TICK = 30.0, 0.05

CONFIG = f"""\
server.data_dir = "{{home}}/var"
server.drain_seconds = 0
sip.listen = [{{{{ transport = "udp", host = "{HERE}", port = 5060 }}}}]
sip.qualify_every = 0
media = {{{{ host = "{HERE}", port_min = 22000, port_max = 22999 }}}}
web = {{{{ host = "{HERE}", port = 8080 }}}}
log.level = "warning"
"""
CLIENT = f"""\
[[client]]
id = "client-{{number}}"
password = "{{password}}"

[client.crm]
base_url = "{CRM}"
client_id = "integration-{{number}}"
client_secret = "{{secret}}"
redirect_uri = "{WEB}/amocrm/oauth"
widget = "smartswitch"

[[client.extension]]
number = "101"
address = "sip:101@{PHONE}:5060"

[[client.trunk]]
name = "operator"
host = "{TRUNK}"
port = {{trunk_port}}
"""


def secret_of(number: int) -> str:
    return f"secret-of-{number}-".ljust(64, "s")


def token_of(number: int) -> str:
    now = int(time.time())
    claims = {"iss": CRM, "aud": WEB, "iat": now, "nbf": now, "exp": now + 1800, "account_id": 1000 + number,
              "user_id": USER, "client_uuid": f"integration-{number}", "is_admin": True}
    return jwt.encode(claims, secret_of(number), "HS256")


class Page:
    """Of one client's administrator, who clicks."""

    def __init__(self, number: int) -> None:
        self._connection = http.client.HTTPConnection(HERE, 8080, timeout=10)
        self._headers = {"X-Auth-Token": token_of(number), "Content-Type": "application/json", "Origin": CRM}
        self._ask("settings", {"widget_version": "1", "login": f"client-{number}", "password": PASSWORD,
                               "functions": {}, "extensions": {str(USER): "101"}}, 200)

    def click(self) -> None:
        self._ask("calls", {"phone": "+7 926 555-44-33", "extension": "101", "request": str(uuid4())}, 202)

    def _ask(self, path: str, body: object, expected: int) -> None:
        self._connection.request("POST", f"/widget/v1/{path}?lang=en", json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != expected:
            raise SystemExit(f"{path}: {answer.status} {said.decode()}")

    def close(self) -> None:
        self._connection.close()


@contextmanager
def daemon(home: Path) -> Iterator[None]:
    config, office = home / "smartswitch.toml", home / "office.toml"
    config.write_text(CONFIG.format(home=home))
    password = PasswordHasher().hash(PASSWORD)
    office.write_text("\n".join(CLIENT.format(number=number, password=password, secret=secret_of(number),
                                              trunk_port=5060 + number) for number in range(CLIENTS)))
    command = (sys.executable, "-m", "b2bua")
    subprocess.run((*command, "apply", "--config", config, office), check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    with (home / "log").open("wb") as log:
        process = subprocess.Popen((*command, "serve", "--config", config), cwd=ROOT, stdout=log, stderr=log)
    try:
        os.sched_setaffinity(process.pid, CPUS[:1])
        wait_until_ready(process)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    for _ in range(int(READY_WITHIN / TICK)):
        if process.poll() is not None:
            break
        try:
            socket.create_connection((HERE, 8080)).close()
        except OSError:
            threading.Event().wait(TICK)
        else:
            return
    raise SystemExit("the daemon did not start")


def measure(rung: Queue[int], clicks: int) -> list[float]:
    """Microseconds of each click."""
    pages, took = [Page(number) for number in range(CLIENTS)], []
    for number in range(WARM_UP + clicks):
        began = time.perf_counter_ns()
        pages[number % CLIENTS].click()
        took.append((rung.get(timeout=10) - began) / 1000)
    for page in pages:
        page.close()
    return took[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, default=300, help=f"at most {MOST_CLICKS}")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rung: Queue[int] = Queue()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, tempfile.TemporaryDirectory() as home:
        sock.bind((PHONE, 5060))
        phone = threading.Thread(target=busy_phone, args=(sock, rung))
        phone.start()
        try:
            with daemon(Path(home)):
                os.sched_setaffinity(0, CPUS[-1:])
                took = measure(rung, given.clicks)
        finally:
            sock.sendto(b"stop", (PHONE, 5060))
            phone.join()
    sys.stdout.write(told("HTTP click -> INVITE", took, given.json))


if __name__ == "__main__":
    main()
