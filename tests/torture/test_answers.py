"""What really comes back for each torture message and each session description of the corpus: a whole office is asked.

Calls come from the trunk, for a number that somebody has; REGISTERs from a phone, without its password, then with it.
`README.md` has the verdicts as a table.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Awaitable
from pathlib import Path

import pytest

from b2bua.directory import Extension, Number
from b2bua.sdp.session import parse as parse_sdp
from b2bua.sip.auth import DigestClient, ha1
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Request, Response
from b2bua.sip.parser import parse
from tests.support.anchored import AnchoredPlane
from tests.support.office import ACME, DID, OPERATOR, PASSWORD, REALM, SERVER, Office, open_office
from tests.support.phone import Answers
from tests.support.virtual_loop import VirtualLoop

HERE = Path(__file__).parent
CORPUS = HERE.parent / "corpora" / "sdp"
PHONE = Address("10.0.2.50", 5060)
NOTHING, TAKEN = "nothing", "180, 200"

# The statuses of all responses but 100, and what the REGISTER with the password gets.
ANSWERS = {
    # RFC 4475 §3.1.1: valid messages
    "rfc4475/wsinv.dat": "481",
    "rfc4475/intmeth.dat": "405",
    "rfc4475/esc01.dat": TAKEN,
    "rfc4475/escnull.dat": "401",
    "rfc4475/esc02.dat": "405",
    "rfc4475/lwsdisp.dat": "200",
    "rfc4475/longreq.dat": TAKEN,
    "rfc4475/dblreq.dat": "401, 200",
    "rfc4475/semiuri.dat": "200",
    "rfc4475/transports.dat": "200",
    "rfc4475/mpart01.dat": "405",
    "rfc4475/unreason.dat": NOTHING,
    "rfc4475/noreason.dat": NOTHING,
    # RFC 4475 §3.1.2: invalid messages
    "rfc4475/badinv01.dat": "400",
    "rfc4475/clerr.dat": "400",
    "rfc4475/ncl.dat": "400",
    "rfc4475/scalar02.dat": "400",
    "rfc4475/scalarlg.dat": NOTHING,
    "rfc4475/quotbal.dat": "400",
    "rfc4475/ltgtruri.dat": "400",
    "rfc4475/lwsruri.dat": "400",
    "rfc4475/lwsstart.dat": "400",
    "rfc4475/trws.dat": "400",
    "rfc4475/escruri.dat": "400",
    "rfc4475/baddate.dat": TAKEN,
    "rfc4475/regbadct.dat": "401, 400",
    "rfc4475/badaspec.dat": "200",
    "rfc4475/baddn.dat": "200",
    "rfc4475/baddn.as-archived": NOTHING,
    "rfc4475/badvers.dat": "505",
    "rfc4475/mismatch01.dat": NOTHING,          # its 400 would be larger than itself: no lever for who forges addresses
    "rfc4475/mismatch02.dat": "400",
    "rfc4475/bigcode.dat": NOTHING,
    # RFC 4475 §3.2 to §3.4
    "rfc4475/badbranch.dat": "200",
    "rfc4475/insuf.dat": NOTHING,               # without From and To there is nothing to answer with
    "rfc4475/unkscm.dat": "416",
    "rfc4475/novelsc.dat": "416",
    "rfc4475/unksm2.dat": "401, 400",
    "rfc4475/bext01.dat": "420",
    "rfc4475/invut.dat": "415",
    "rfc4475/regaut01.dat": "401, 200",
    "rfc4475/multi01.dat": "400",
    "rfc4475/mcl01.dat": "400",
    "rfc4475/bcast.dat": NOTHING,
    "rfc4475/zeromf.dat": "483",
    "rfc4475/cparam01.dat": "401, 200",
    "rfc4475/cparam02.dat": "401, 200",
    "rfc4475/regescrt.dat": "401, 200",
    "rfc4475/sdp01.dat": "406",
    "rfc4475/inv2543.dat": TAKEN,
    # RFC 5118
    "rfc5118/ipv6-good.dat": "401, 200",
    "rfc5118/ipv6-bad.dat": "400",
    "rfc5118/port-ambiguous.dat": "401, 200",
    "rfc5118/port-unambiguous.dat": "401, 200",
    "rfc5118/via-received-param-with-delim.dat": "481",
    "rfc5118/via-received-param-no-delim.dat": "200",
    "rfc5118/ipv6-in-sdp.dat": TAKEN,
    "rfc5118/mult-ip-in-header.dat": "481",
    "rfc5118/mult-ip-in-sdp.dat": TAKEN,
    "rfc5118/ipv4-mapped-ipv6.dat": TAKEN,
    "rfc5118/ipv6-bug-abnf-3-colons.dat": "200",
    "rfc5118/ipv6-correct-abnf-2-colons.dat": "200",
}

NO_AUDIO, MULTICAST = "488: no plain RTP/AVP audio", "488: multicast is not relayed"
OFFERS = {
    "alac": NO_AUDIO, "bfcp": "200: audio 9", "dante-aes67": MULTICAST, "extmap-encrypt": NO_AUDIO, "hacky": NO_AUDIO,
    "icelite": NO_AUDIO, "invalid": "200: audio 0", "jsep": NO_AUDIO, "jssip": NO_AUDIO, "mediaclk-avbtp": MULTICAST,
    "mediaclk-ptp-v2": MULTICAST, "mediaclk-ptp-v2-w-rate": MULTICAST, "mediaclk-rtp": MULTICAST, "normal": NO_AUDIO,
    "onvif": NO_AUDIO, "rtcp-fb": "200: audio 96 101 (opus/48000/2) (telephone-event/48000)",
    "sctp-dtls-26": NO_AUDIO, "simulcast": "200: audio 0",
    "ssrc": NO_AUDIO, "st2022-6": NO_AUDIO, "st2110-20": NO_AUDIO, "tcp-active": NO_AUDIO, "tcp-passive": NO_AUDIO,
    "ts-refclk-media": MULTICAST, "ts-refclk-sess": MULTICAST,
}


def run(asked: Awaitable[str]) -> str:
    async def asking() -> str:
        return await asked

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(asking())


def takes_the_first_codec(offer: bytes) -> bytes:
    """An answer with one audio stream and one codec: what the simplest phone would make of it."""
    lines, taken = ["v=0", "o=- 1 1 IN IP4 10.0.2.102", "s=-", "c=IN IP4 10.0.2.102", "t=0 0"], False
    for media in offer.decode("utf-8", "replace").split("\r\nm=")[1:]:
        kind, port, profile, first, *_ = media.split("\r\n")[0].split()
        takes = kind == "audio" and port != "0" and not taken
        taken = taken or takes
        lines.append(f"m={kind} {40000 if takes else 0} {profile} {first}")
        lines += re.findall(rf"(?m)^a=rtpmap:{re.escape(first)} .*?(?=\r)", media)
    return "".join(f"{line}\r\n" for line in lines).encode()


async def called(office: Office) -> None:
    boris = await office.phone("102", Answers(after=1.0, hangs_up_after=3.0))
    boris.answer_to = takes_the_first_codec  # type: ignore[method-assign]


def responses(office: Office) -> list[Response]:
    """Ours, to whom we did not call, in their order; a response that is sent again counts once."""
    sent = dict.fromkeys(one.data for one in office.network.log if one.source == SERVER)
    messages = (_read(data) for data in sent if data.startswith(b"SIP/2.0"))
    return [message for message in messages if message.status > 100]


def _read(data: bytes) -> Response:
    """The status and what a client needs of it: the fields that it copies may be as bad as in the request."""
    try:
        message = parse(data)
    except ParseError:
        message = parse(b"SIP/2.0 " + data[8:11] + b" Bad\r\n" + _COPIED)
    assert isinstance(message, Response)
    return message


_COPIED = (
    b"Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\n"
    b"Call-ID: a\r\nCSeq: 1 INVITE\r\n\r\n"
)


async def answers_to(data: bytes) -> str:
    async with open_office(media=AnchoredPlane()) as office:
        office.trunk.close()
        await called(office)
        await known(office, data)
        source = PHONE if data.startswith(b"REGISTER") else OPERATOR
        statuses = await answered(office, data, source)
        if data.startswith(b"REGISTER") and statuses[-1].status == 401 and (again := signed(data, statuses[-1])):
            statuses += await answered(office, again, source)
        assert office.agent.counters.faults == office.pbx.counters.faults == 0
        return ", ".join(str(response.status) for response in statuses) or NOTHING


async def known(office: Office, data: bytes) -> None:
    """Whoever it is for has a phone, and a number."""
    try:
        request = parse(data)
    except ParseError:
        return
    if isinstance(request, Request):
        user = request.to.uri.user
        own = Extension(ACME, user, user, {"MD5": ha1("MD5", user, REALM, PASSWORD)})
        office.change(extensions=(*office.books.directory.extensions, own),
                      numbers=(*office.books.directory.numbers, Number(ACME, request.uri.user, "102")))
        await office.pbx.settings_changed()


async def answered(office: Office, data: bytes, source: Address) -> list[Response]:
    await asyncio.sleep(1)
    office.network.log.clear()
    office.agent.on_message(data, Flow(Transport.UDP, SERVER, source))
    await asyncio.sleep(3)
    if data.startswith(b"REGISTER") and not responses(office):      # briefer than a challenge: it has to ask again
        office.agent.on_message(data, Flow(Transport.UDP, SERVER, source))
        await asyncio.sleep(3)
    return responses(office)


def signed(data: bytes, challenge: Response) -> bytes:
    """The same with the password, and nothing else changed but what a new request must have anew."""
    request = parse(data)
    assert isinstance(request, Request)
    headers = DigestClient(request.to.uri.user, PASSWORD, random.Random(1)).authorize(request, challenge)
    if headers is None or "\0" in request.to.uri.user:       # such a name cannot be quoted
        return b""
    first, _, rest = data.partition(b"\r\n")
    rest = re.sub(rb"(?i)(?m)^(cseq *: *)([0-9]+)", lambda found: found[1] + b"%d" % (int(found[2]) + 1), rest, count=1)
    rest = rest.replace(b"branch=z9hG4bK", b"branch=z9hG4bK-again-", 1)
    return b"\r\n".join([first, *(f"{name}: {value}".encode() for name, value in headers), rest])


async def answer_to_offer(body: bytes) -> str:
    async with open_office(media=AnchoredPlane()) as office:
        await called(office)
        office.trunk.sdp = lambda direction: body  # type: ignore[method-assign]
        call = office.trunk.call(DID, as_="+79161234567")
        await asyncio.sleep(2)
        call.hang_up()
        record = await office.record()
        assert office.agent.counters.faults == office.pbx.counters.faults == 0
        if call.status != 200:
            return f"{call.status}: {record.why[-1]}"
        (stream,) = (media for media in parse_sdp(call.sdp).media if media.port)
        codecs = re.findall(rb"(?m)^a=rtpmap:(?:9[6-9]|1[0-9][0-9]) (.*?)\r", call.sdp)
        return f"200: {stream.kind} {' '.join(stream.formats)}" + "".join(f" ({codec.decode()})" for codec in codecs)


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_each_torture_message_gets_the_answer_that_is_due(name: str) -> None:
    assert run(answers_to((HERE / name).read_bytes())) == ANSWERS[name]


@pytest.mark.parametrize("name", sorted(OFFERS))
def test_each_session_description_is_taken_or_refused_with_a_reason(name: str) -> None:
    assert run(answer_to_offer((CORPUS / f"{name}.sdp").read_bytes())) == OFFERS[name]


def test_nothing_is_without_a_verdict() -> None:
    assert {f"{path.parent.name}/{path.name}" for path in HERE.glob("rfc*/*") if path.suffix != ".json"} == set(ANSWERS)
    assert {path.stem for path in CORPUS.glob("*.sdp")} == set(OFFERS)


@pytest.mark.parametrize("folder", ["rfc4475", "rfc5118"])
def test_the_answers_are_among_those_that_the_index_finds_fit(folder: str) -> None:
    for entry in json.loads((HERE / folder / "index.json").read_text("utf-8"))["messages"]:
        answer = ANSWERS[f"{folder}/{entry['file']}"]
        if entry["kind"].startswith("response"):
            assert answer == NOTHING, entry["file"]
        elif entry["codes"] and answer != NOTHING and not entry["lenient_ok"]:
            assert {int(status) for status in answer.split(", ")} & {*entry["codes"]}, entry["file"]


def test_the_table_says_the_same() -> None:
    kinds = {
        f"{folder}/{entry['file']}": entry["kind"]
        for folder in ("rfc4475", "rfc5118")
        for entry in json.loads((HERE / folder / "index.json").read_text("utf-8"))["messages"]
    }
    rows = [f"| `{name}` | {kinds.get(name, 'OPTIONS')} | {answer} |" for name, answer in ANSWERS.items()]
    rows += [f"| `{name}.sdp` | offer | {answer} |" for name, answer in OFFERS.items()]
    lines = (HERE / "README.md").read_text("utf-8").splitlines()
    assert [line for line in lines if re.match(r"\| `\S+\.[a-z-]+` \|", line)] == rows
