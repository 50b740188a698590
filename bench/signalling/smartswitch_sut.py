#!/usr/bin/env python3
"""Smartswitch as a system under test: writes a configuration by which every call to 1000 goes to one fixed address,
applies it, and becomes the daemon.

  smartswitch_sut.py --listen 127.0.0.1:5060 --next 127.0.0.1:5070 --scratch DIR [--media embedded]
                     [--crm URL [--no-sync]] [--no-ladders]
"""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

COMMAND = (sys.executable, "-m", "b2bua")
ROOT = Path(__file__).resolve().parents[2]

SERVER = """\
[server]
data_dir = "{scratch}/var"
drain_seconds = 0

[sip]
listen = [{{ transport = "udp", host = "{host}", port = {port} }}]
max_calls = 100000

[media]
plane = "{media}"
host = "{host}"

[web]
host = "{host}"
port = {web_port}

[log]
level = "warning"
call_trace_days = {days}
"""


def write_files(
    scratch: Path, listen: str, onward: str, media: str, crm: str, web_port: int, sync: bool = True, days: int = 7
) -> tuple[Path, Path]:
    host, port = listen.rsplit(":", 1)
    config, directory = scratch / "smartswitch.toml", scratch / "office.toml"
    config.write_text(SERVER.format(scratch=scratch, host=host, port=port, media=media, web_port=web_port, days=days))
    directory.write_text(office(host, onward, crm, sync))
    return config, directory


def office(trunk: str, onward: str, crm: str, sync: bool = True) -> str:
    ahead = "" if sync else "sync = false\n"
    account = f'\n[client.crm]\nbase_url = "{crm}"\ntoken = "sandbox-token"\n{ahead}' if crm else ""
    return f"""\
[[client]]
id = "bench"
name = "Bench"
max_calls = 100000
record = false
{account}
[[client.trunk]]
name = "load"
host = "{trunk}"
max_calls = 100000

[[client.extension]]
number = "100"
crm_user = 77
address = "sip:1000@{onward}"

[[client.number]]
number = "1000"
destination = "100"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--next", required=True, dest="onward")
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--media", choices=("none", "embedded"), default="none")
    parser.add_argument("--crm", default="", help="base URL of an amoCRM (the stand-in)")
    parser.add_argument("--no-sync", action="store_true", help="nothing is read ahead of that amoCRM")
    parser.add_argument("--no-ladders", action="store_true", help="nothing is noted of calls, as by its peers")
    parser.add_argument("--web-port", type=int, default=0)
    given = parser.parse_args()
    config, directory = write_files(
        given.scratch, given.listen, given.onward, given.media, given.crm, given.web_port, not given.no_sync,
        0 if given.no_ladders else 7,
    )
    os.chdir(ROOT)
    subprocess.run([*COMMAND, "apply", "--config", str(config), str(directory)], check=True)
    os.execv(COMMAND[0], [*COMMAND, "serve", "--config", str(config)])      # noqa: S606


if __name__ == "__main__":
    main()
