"""The relay's process: `python -m b2bua.media.relay OPTIONS`, started by plane.py with a socket to it."""

from __future__ import annotations

import gc
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
from pathlib import Path

from b2bua.media.relay import wire
from b2bua.media.relay.player import Players
from b2bua.media.relay.ports import NoPortsLeft, PortPool
from b2bua.media.relay.relay import Relay
from b2bua.media.relay.tapes import Tapes


def main() -> int:
    options = json.loads(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM):      # Ctrl-C and a service manager tell all processes of the group
        signal.signal(number, signal.SIG_IGN)           # to end: the switch drains its calls, we end with its socket
    control = socket.socket(fileno=options["control"])
    control.setblocking(False)
    _prepare_process(options["realtime"])
    poll = select.epoll()
    tapes = Tapes(Path(options["recordings"]) if options["recordings"] else None,
                  watch=lambda fd: poll.register(fd, select.EPOLLIN), unwatch=poll.unregister)
    pool = PortPool(options["bind"], options["first_port"], options["last_port"])
    try:
        tapes.start_writer()
        pool.give_back(pool.take())
    except (OSError, NoPortsLeft) as error:
        control.send(wire.encode(wire.CannotStart(_sentence(error, options))))
        return 2
    words = mmap.mmap(options["sounds"], 0, access=mmap.ACCESS_READ)      # of relay.sounds.SoundMemory
    relay = Relay(control, pool, tapes, Players(words), poll,
                  rtp_timeout=options["rtp_timeout"], hold_timeout=options["hold_timeout"])
    # Nothing on the packet path makes rings of objects and Session.free() takes its own apart, so that reference counts
    # suffice: a collection would only hold up packets, the longer the more calls there are.
    gc.collect()
    gc.freeze()
    gc.disable()
    relay.run()
    return 0


def _prepare_process(realtime: bool) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))      # four sockets a call
    try:
        if realtime:
            # Before all that is not real time: niceness counts within a session or control group only, and a packet
            # that waits for somebody else's time slice is late. The kernel leaves 5 % to the others even so
            # (sched_rt_runtime_us), and floods are held back. The writer, a child, is not to have it.
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        return                                          # not permitted: audio competes with everybody else


def _sentence(error: OSError | NoPortsLeft, options: dict[str, object]) -> str:
    if isinstance(error, NoPortsLeft):
        return (f"cannot bind any port of {options['first_port']}-{options['last_port']} on {options['bind']}: "
                "is it an address of this machine, and is the range free?")
    return f"cannot write recordings to {options['recordings']}: {error.strerror}"


if __name__ == "__main__":
    sys.exit(main())
