"""A DNS server on loopback, for a daemon in another process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.zone

LARGEST = 65535


@contextmanager
def answered_names(zone: str, origin: str, host: str) -> Iterator[str]:
    """Answers from this zone (RFC 1035 §5) while the block lasts, at `host` and the port that the value names."""
    read = dns.zone.from_text(zone, origin, relativize=False, check_origin=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((host, 0))
        thread = Thread(target=_answer_all, args=(server, read), name=f"names at {host}")
        thread.start()
        try:
            yield f"{host}:{server.getsockname()[1]}"
        finally:
            server.sendto(b"", server.getsockname())
            thread.join()


def _answer_all(server: socket.socket, zone: dns.zone.Zone) -> None:
    while True:
        query, source = server.recvfrom(LARGEST)
        if not query:
            return
        server.sendto(answer_to(dns.message.from_wire(query), zone).to_wire(), source)


def answer_to(query: dns.message.Message, zone: dns.zone.Zone) -> dns.message.Message:
    response = dns.message.make_response(query)
    response.flags |= dns.flags.AA | dns.flags.RA
    _look_up(zone, query.question[0].name, query.question[0].rdtype, response)
    return response


def _look_up(
    zone: dns.zone.Zone, name: dns.name.Name, kind: dns.rdatatype.RdataType, response: dns.message.Message
) -> None:
    if zone.get_node(name) is None:
        response.set_rcode(dns.rcode.NXDOMAIN)
        return
    for wanted in (kind, dns.rdatatype.CNAME):
        found = zone.get_rrset(name, wanted)
        if found is not None:
            response.answer.append(found)
        if found is not None and wanted == dns.rdatatype.CNAME != kind:
            _look_up(zone, found[0].target, kind, response)
