"""Kamailio as the edge of an operator: takes registrations and calls of its subscriber by digest, stays on the way of
every call that it lets through (Record-Route), and knows one number outside."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from tests.support.sipp import is_bound

PATIENCE = 10.0                           # seconds to start, and to end
TICK = 0.05
DOMAIN = "operator.test"
SUBSCRIBER, PASSWORD = "line-7", "edge-horse-battery"
OUT_OF_ORDER = "0503"                     # numbers that end so are answered 503

available = shutil.which("kamailio") is not None

CONFIG = """\
debug=1
log_stderror=yes
children=2
auto_aliases=no
listen=udp:{host}:5060
listen=tcp:{host}:5060
alias="{domain}"

loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "xlog.so"
loadmodule "textops.so"
loadmodule "siputils.so"

modparam("usrloc", "db_mode", 0)
modparam("auth", "qop", "auth")

request_route {{
    if (!mf_process_maxfwd_header("10")) {{
        sl_send_reply("483", "Too Many Hops");
        exit;
    }}
    if (has_totag()) {{
        if (loose_route()) {{
            xlog("L_NOTICE", "within a call: $rm from $si\\n");
            t_relay();
        }} else if (!is_method("ACK")) {{
            xlog("L_NOTICE", "off the route: $rm from $si\\n");
            sl_send_reply("403", "Not By This Way");
        }} else if (t_check_trans()) {{
            t_relay();
        }}
        exit;
    }}
    if (is_method("CANCEL")) {{
        if (t_check_trans()) t_relay();
        exit;
    }}
    if (is_method("REGISTER")) {{
        if (!pv_www_authenticate("{domain}", "{password}", "0") || $au != "{subscriber}") {{
            www_challenge("{domain}", "1");
            exit;
        }}
        save("location");
        xlog("L_NOTICE", "registered: $fU at $ct\\n");
        exit;
    }}
    if (!is_method("INVITE")) {{
        sl_send_reply("405", "Method Not Allowed");
        exit;
    }}
    record_route();
    if ($si == "{subscriber_at}") {{
        if (!pv_proxy_authenticate("{domain}", "{password}", "0")) {{
            proxy_challenge("{domain}", "1");
            exit;
        }}
        consume_credentials();
        if ($rU =~ "{out_of_order}$") {{
            sl_send_reply("503", "Service Unavailable");
            exit;
        }}
        $du = "sip:{world}:5060;transport=udp";
    }} else {{
        $ru = "sip:{subscriber}@{domain}";
        if (!lookup("location")) {{
            sl_send_reply("480", "Temporarily Unavailable");
            exit;
        }}
    }}
    t_relay();
}}
"""


@dataclass(frozen=True, slots=True)
class Kamailio:
    """A running one. Its log tells what came by."""

    home: Path
    process: subprocess.Popen[bytes]

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    def tells(self, words: str, since: int = 0) -> bool:
        """Waits for these words in its log, which no event announces."""
        return self._wait(lambda: words in self.log()[since:], f"it never said {words!r}")

    def receives_at(self, host: str) -> bool:
        """Waits until it does; its log says nothing of that."""
        return self._wait(lambda: is_bound(host, 5060), f"it does not receive at {host}")

    def _wait(self, condition: Callable[[], bool], complaint: str) -> bool:
        for _ in range(int(PATIENCE / TICK)):
            assert self.process.poll() is None, f"Kamailio has ended\n{self.log()}"
            if condition():
                return True
            Event().wait(TICK)
        raise AssertionError(f"Kamailio: {complaint}\n{self.log()}")

    def within_calls(self, since: int = 0) -> list[tuple[str, str]]:
        """Of each request in a dialog that followed its Record-Route, in order: method, and source."""
        marker = "within a call: "
        found = (line.partition(marker)[2] for line in self.log()[since:].splitlines() if marker in line)
        return [(method, source) for method, _, source in (text.split() for text in found)]


@contextmanager
def running_kamailio(home: Path, host: str, subscriber_at: str, world: str) -> Iterator[Kamailio]:
    """At `host`, between the subscriber, who calls from `subscriber_at`, and whoever is called, at `world`."""
    config = home / "kamailio.cfg"
    config.write_text(CONFIG.format(
        host=host, domain=DOMAIN, subscriber=SUBSCRIBER, password=PASSWORD, out_of_order=OUT_OF_ORDER,
        subscriber_at=subscriber_at, world=world,
    ))   # fmt: skip
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            ["kamailio", "-f", config, "-DD", "-E", "-m", "64", "-M", "8", "-Y", home, "-P", home / "pid"],
            cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )   # fmt: skip
    running = Kamailio(home, process)
    try:
        assert running.receives_at(host)
        yield running
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    finally:
        if process.poll() is None:        # it has children, which are of its session
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
