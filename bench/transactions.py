"""What the life of a transaction costs, its messages included, and what lingers: `python -m bench.transactions`."""

from __future__ import annotations

import argparse
import gc
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import count
from time import process_time

from b2bua.sip.effects import Address, Flow, Transmit, Transport
from b2bua.sip.message import Request, Response
from b2bua.sip.parser import parse
from b2bua.sip.timers import Deadlines, Timers
from b2bua.sip.transaction_table import RequestReceived, TransactionTable

ROUNDS = 5_000
BATCH = 1_000
LINGERING = 5_000
Prepare = Callable[[int], tuple[object, ...]]
FLOW = Flow(Transport.UDP, Address("192.0.2.1", 5060), Address("198.51.100.7", 5060))


def request(method: str, number: int, cseq: int = 1) -> bytes:
    return (
        f"{method} sip:101@192.0.2.1:5060 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK-{method}-{number};rport\r\n"
        f"Max-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@198.51.100.7>;tag=a{number}\r\nTo: <sip:101@192.0.2.1>\r\n"
        f"Call-ID: {number}@198.51.100.7\r\nCSeq: {cseq} {method}\r\nContact: <sip:alice@198.51.100.7:5060>\r\n"
        f"User-Agent: bench\r\nContent-Length: 0\r\n\r\n"
    ).encode()


class Life:
    """One stack; each kind of life takes parsed messages and leaves the clock a little later."""

    def __init__(self) -> None:
        branches = count()
        self.deadlines = Deadlines()
        self.table = TransactionTable(Timers(), self.deadlines, branch=lambda: str(next(branches)))
        self.now = 1000.0

    def tick(self) -> None:
        self.now += 0.001
        for deadline in self.deadlines.due(self.now):
            self.table.handle(deadline.owner, deadline.timer, self.now)     # type: ignore[arg-type]
        assert self.table.next_timeout is not None

    def write(self, effects: Sequence[object]) -> None:
        for effect in effects:
            if isinstance(effect, Transmit):
                bytes(effect.message)

    def served(self, message: Request, response: Callable[[Request], Response]) -> None:
        """A request comes and is answered; an INVITE is told Trying before."""
        match self.table.receive(message, FLOW, self.now):
            case [RequestReceived(transaction, _, _)]:
                effects = self.table.trying(transaction, self.now)
                effects += self.table.respond(transaction, response(message), self.now)
                self.write(effects)
            case unexpected:
                raise AssertionError(unexpected)
        self.tick()

    def asked(self, message: Request, responses: list[Response]) -> None:
        """A request of ours, and what comes back."""
        self.write(self.table.send_request(message, FLOW, self.now)[1])
        for response in responses:
            self.table.receive(response, FLOW, self.now)
        self.tick()


def microseconds(prepare: Prepare, live: Callable[..., None]) -> float:
    """The best of some batches: the machine may be busy."""
    return min(batch(prepare, live, first) for first in range(0, ROUNDS, BATCH))


def batch(prepare: Prepare, live: Callable[..., None], first: int) -> float:
    prepared = [prepare(number) for number in range(first, first + BATCH)]
    gc.collect()
    gc.disable()
    started = process_time()
    for arguments in prepared:
        live(*arguments)
    elapsed = process_time() - started
    gc.enable()
    return elapsed / BATCH * 1e6


def parsed(data: bytes) -> Request:
    message = parse(data)
    assert isinstance(message, Request)
    return message


def ok(message: Request) -> Response:
    return message.response(200, to_tag="us")


def outgoing(method: str, *statuses: int) -> Prepare:
    def prepare(number: int) -> tuple[object, ...]:
        message = parsed(request(method, number))
        received = [parse(bytes(message.response(status, to_tag="b"))) for status in statuses]
        return message, received

    return prepare


def kept(method: str) -> float:
    """Octets that a served transaction holds while it lingers, the message's own included."""
    life = Life()
    tracemalloc.start()
    for number in range(LINGERING):
        life.served(parsed(request(method, number)), ok)
    octets = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert life.table.live_servers == LINGERING
    return octets / LINGERING


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    lives: dict[str, tuple[Prepare, Callable[..., None]]] = {
        "INVITE served: 100, 200": (lambda number: (parsed(request("INVITE", number)), ok), Life().served),
        "BYE served: 200": (lambda number: (parsed(request("BYE", number)), ok), Life().served),
        "INVITE sent: 100, 180, 200": (outgoing("INVITE", 100, 180, 200), Life().asked),
        "BYE sent: 200": (outgoing("BYE", 200), Life().asked),
    }
    for name, (prepare, live) in lives.items():
        print(f"{name:<28} {microseconds(prepare, live):6.1f} us")
    for method in ("INVITE", "BYE"):
        print(f"{method} served, lingering {kept(method):11.0f} octets")


if __name__ == "__main__":
    main()
