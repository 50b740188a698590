"""Offers and answers as the other party sees them (RFC 3264)."""

from __future__ import annotations

import pytest

from b2bua.sdp.negotiation import Endpoint, Face, NotAcceptable, Relayed, less, narrowed, relay_answer, relay_offer
from b2bua.sdp.session import Direction, SdpError, SessionDescription, parse

SESSION = "v=0\r\no=phone 77 1 IN IP4 192.0.2.9\r\ns=call\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
AUDIO = ("m=audio 4000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
         "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n")


def description(media: str = AUDIO, session: str = SESSION) -> SessionDescription:
    return parse((session + media).encode())


def face(port: int = 20000, host: str = "198.51.100.1") -> Face:
    return Face(host, port, 1234)


def offered(media: str = AUDIO, session: str = SESSION) -> Relayed:
    return relay_offer(description(media, session), face())


def text(relayed: Relayed) -> str:
    return relayed.body.decode()


def test_an_offer_shows_our_address_and_nothing_of_the_senders() -> None:
    assert text(offered()) == (
        "v=0\r\no=- 1234 1 IN IP4 198.51.100.1\r\ns=call\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n"
        + AUDIO.replace("4000", "20000") + "a=sendrecv\r\n")


def test_what_was_learned_of_the_sender() -> None:
    stream = offered().stream
    assert stream.endpoint == Endpoint("192.0.2.9", 4000, "192.0.2.9", 4001)
    assert stream.codecs == {8: "PCMA/8000", 0: "PCMU/8000", 101: "telephone-event/8000"}
    assert not stream.on_hold


def test_the_version_grows_with_the_content_alone() -> None:
    ours = face()
    bodies = [relay_offer(description(media), ours).body for media in (AUDIO, AUDIO, AUDIO + "a=sendonly\r\n", AUDIO)]
    assert [body.split(b" ")[2] for body in bodies] == [b"1", b"1", b"2", b"3"]


def test_a_change_of_the_senders_address_is_no_change_to_the_other_side() -> None:
    ours = face()
    first = relay_offer(description(), ours).body
    assert relay_offer(description(session=SESSION.replace("192.0.2.9", "192.0.2.10")), ours).body == first


def test_a_connection_of_the_media_outweighs_the_sessions() -> None:
    relayed = offered(AUDIO.replace("a=rtpmap:8", "c=IN IP4 203.0.113.5\r\na=rtpmap:8", 1))
    assert relayed.stream.endpoint is not None
    assert relayed.stream.endpoint.host == "203.0.113.5"
    assert text(relayed).count("c=") == 1


def test_a_connection_stands_before_bandwidth_and_time() -> None:
    session = SESSION.replace("c=IN IP4 192.0.2.9\r\n", "i=about\r\nb=AS:80\r\n")
    relayed = offered(AUDIO.replace("a=rtpmap:8", "c=IN IP4 203.0.113.5\r\na=rtpmap:8", 1), session)
    assert [line[0] for line in text(relayed).split("\r\n")[:7]] == list("vosicbt")


def test_missing_subject_and_time_are_supplied() -> None:
    relayed = offered(session="v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\nc=IN IP4 192.0.2.9\r\na=tool:x\r\n")
    assert [line[0] for line in text(relayed).split("\r\n")[:6]] == list("voscta")


@pytest.mark.parametrize("line", [
    "a=candidate:1 1 UDP 2130706431 10.0.0.1 8998 typ host", "a=ice-ufrag:x", "a=ice-pwd:y", "a=ice-lite",
    "a=rtcp-mux", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc", "a=fingerprint:sha-1 00:11", "a=setup:actpass",
    "a=group:BUNDLE 0", "a=end-of-candidates", "a=zrtp-hash:1.10 abc", "a=alt:1 1 : x y 10.0.0.1 4000",
])
def test_what_would_lead_past_us_is_left_out(line: str) -> None:
    assert line not in text(offered(f"{AUDIO}{line}\r\n"))
    assert line not in text(offered(session=f"{SESSION}{line}\r\n"))


def test_rtcp_is_announced_at_our_port_and_learned_from_the_senders() -> None:
    relayed = offered(AUDIO + "a=rtcp:53020 IN IP4 203.0.113.7\r\n")
    assert "a=rtcp:20001 IN IP4 198.51.100.1\r\n" in text(relayed)
    assert relayed.stream.endpoint == Endpoint("192.0.2.9", 4000, "203.0.113.7", 53020)
    short = offered(AUDIO + "a=rtcp:53020\r\n").stream.endpoint
    assert short == Endpoint("192.0.2.9", 4000, "192.0.2.9", 53020)


@pytest.mark.parametrize("value", ["0", "65536", "x", "99999999999999999999"])
def test_rtcp_without_a_port_is_malformed(value: str) -> None:
    with pytest.raises(SdpError):
        offered(f"{AUDIO}a=rtcp:{value}\r\n")


@pytest.mark.parametrize("line", ["m=video 5000 RTP/AVP 31", "m=audio 6000 RTP/AVP 0", "m=image 0 udptl t38",
                                  "m=audio 7000 RTP/SAVP 0"])
def test_other_media_keep_their_line_with_port_0(line: str) -> None:
    rejected = line.split()
    rejected[1] = "0"
    lines = [row for row in text(offered(f"{AUDIO}{line}\r\na=x:y\r\n")).split("\r\n") if row.startswith("m=")]
    assert lines == ["m=audio 20000 RTP/AVP 8 0 101", " ".join(rejected)]


def test_plain_audio_is_found_behind_encrypted() -> None:
    relayed = offered("m=audio 7000 RTP/SAVP 0\r\na=crypto:1 x inline:y\r\n" + AUDIO)
    assert [row for row in text(relayed).split("\r\n") if row.startswith("m=")] == [
        "m=audio 0 RTP/SAVP 0", "m=audio 20000 RTP/AVP 8 0 101"]


@pytest.mark.parametrize("media", [
    "", "m=audio 0 RTP/AVP 0\r\n", "m=audio 4000 RTP/SAVP 0\r\n", "m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n",
    "m=video 4000 RTP/AVP 31\r\n", "m=image 4000 tcp t38\r\n", "m=image 0 udptl t38\r\n",
    "m=audio 4000 RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\n", "m=audio 4000 RTP/AVP 13\r\n",
    "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 233.252.0.1/127\r\n",
])
def test_offers_that_cannot_be_carried(media: str) -> None:
    with pytest.raises(NotAcceptable):
        offered(media)


def test_hold_in_its_three_spellings() -> None:
    sendonly, inactive = offered(AUDIO + "a=sendonly\r\n"), offered(AUDIO + "a=inactive\r\n")
    old = offered(session=SESSION.replace("c=IN IP4 192.0.2.9", "c=IN IP4 0.0.0.0"))
    assert [relayed.stream.on_hold for relayed in (sendonly, inactive, old)] == [True, True, True]
    assert text(sendonly).endswith("a=sendonly\r\n")
    assert text(inactive).endswith("a=inactive\r\n")
    assert text(old).endswith("a=sendonly\r\n")
    assert "c=IN IP4 198.51.100.1" in text(old)
    assert old.stream.endpoint is None


@pytest.mark.parametrize(("direction", "shown"), [
    ("sendrecv", "sendonly"), ("sendonly", "sendonly"), ("recvonly", "inactive"), ("inactive", "inactive"),
])
def test_old_hold_takes_receiving_away(direction: str, shown: str) -> None:
    relayed = offered(f"{AUDIO}a={direction}\r\n", SESSION.replace("IP4 192.0.2.9\r\nt", "IP4 0.0.0.0\r\nt"))
    assert relayed.stream.direction is Direction(shown)


def test_a_direction_of_the_session_holds_for_its_media() -> None:
    relayed = offered(session=SESSION + "a=recvonly\r\n")
    assert relayed.stream.direction is Direction.RECVONLY
    assert text(relayed).count("a=recvonly") == 1


def test_a_name_as_address_is_no_endpoint() -> None:
    assert offered(session=SESSION.replace("c=IN IP4 192.0.2.9", "c=IN IP4 phone.example.org")).stream.endpoint is None


def test_ipv6_is_answered_by_our_own_family() -> None:
    relayed = offered(session=SESSION.replace("c=IN IP4 192.0.2.9", "c=IN IP6 2001:DB8::9"))
    assert "c=IN IP4 198.51.100.1" in text(relayed)
    assert relayed.stream.endpoint is not None
    assert relayed.stream.endpoint.host == "2001:db8::9"
    ours = relay_offer(description(), face(host="2001:db8::1"))
    assert "c=IN IP6 2001:db8::1" in text(ours)


# Answers.

ANSWER = "m=audio 5000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"


def answered(answer: str = ANSWER, offer: str = AUDIO) -> Relayed:
    return relay_answer(description(answer), description(offer), face(20002))


def test_an_answer_shows_our_other_port_and_the_answerers_choice() -> None:
    relayed = answered()
    assert "m=audio 20002 RTP/AVP 8 101\r\n" in text(relayed)
    assert relayed.stream.codecs == {8: "PCMA/8000", 101: "telephone-event/8000"}


def test_codecs_that_were_not_offered_are_struck_from_the_answer() -> None:
    relayed = answered(ANSWER.replace("8 101", "18 8 101") + "a=rtpmap:18 G729/8000\r\na=fmtp:18 annexb=no\r\n")
    assert "m=audio 20002 RTP/AVP 8 101\r\n" in text(relayed)
    assert ":18" not in text(relayed)


def test_another_number_for_an_offered_codec_is_legal() -> None:
    relayed = answered(ANSWER.replace("101", "120"))
    assert "m=audio 20002 RTP/AVP 8 120\r\n" in text(relayed)
    assert relayed.stream.codecs == {8: "PCMA/8000", 120: "telephone-event/8000"}


def test_encodings_are_compared_without_regard_to_case() -> None:
    assert answered(ANSWER.replace("PCMA", "pcma")).stream.codecs[8] == "pcma/8000"


@pytest.mark.parametrize("answer", [
    "m=audio 5000 RTP/AVP 18\r\n", "m=audio 5000 RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\n",
    "m=audio 0 RTP/AVP 8\r\n", "m=video 5000 RTP/AVP 31\r\n", "m=audio 5000 RTP/SAVP 8\r\n", "",
])
def test_answers_without_a_common_voice_are_refused(answer: str) -> None:
    with pytest.raises(NotAcceptable):
        answered(answer)


def test_the_offers_lines_come_back_in_their_order() -> None:
    offer = "m=video 6000 RTP/AVP 31\r\n" + AUDIO + "m=image 7000 udptl t38\r\n"
    expected = ["m=video 0 RTP/AVP 31", "m=audio 20002 RTP/AVP 8 101", "m=image 0 udptl t38"]
    full = "m=video 0 RTP/AVP 31\r\n" + ANSWER + "m=image 0 udptl t38\r\n"
    for answer in (full, ANSWER):       # some phones leave out what they refuse
        lines = [row for row in text(answered(answer, offer)).split("\r\n") if row.startswith("m=")]
        assert lines == expected


def test_an_answer_that_listens_only() -> None:
    relayed = answered(ANSWER + "a=recvonly\r\n")
    assert relayed.stream.on_hold
    assert text(relayed).endswith("a=recvonly\r\n")


WIDE = (
    "m=audio 4000 RTP/AVP 96 8 18 101 97\r\nc=IN IP4 192.0.2.8\r\na=rtpmap:96 opus/48000/2\r\n"
    "a=fmtp:96 useinbandfec=1\r\na=fmtp:18 annexb=no\r\na=rtpmap:101 telephone-event/8000\r\n"
    "a=rtpmap:97 telephone-event/48000\r\na=rtcp-fb:* nack\r\na=rtcp-fb:96 nack\r\na=ptime:20\r\na=sendonly\r\n"
)
VIDEO = "m=video 4002 RTP/AVP 98\r\na=rtpmap:98 H264/90000\r\n"


def test_a_refused_offer_is_made_again_with_plain_voice() -> None:
    found = less((SESSION + WIDE + VIDEO).encode(), b"")
    assert found is not None
    assert found[0].decode() == SESSION + (
        "m=audio 4000 RTP/AVP 8 101\r\nc=IN IP4 192.0.2.8\r\na=rtpmap:101 telephone-event/8000\r\n"
        "a=rtcp-fb:* nack\r\na=ptime:20\r\na=sendonly\r\nm=video 0 RTP/AVP 98\r\n")


@pytest.mark.parametrize(("can", "formats"), [
    ("m=audio 9 RTP/AVP 0 18", "18"),
    ("m=audio 9 RTP/AVP 8 111\r\na=rtpmap:111 OPUS/48000/2", "96 8"),
    ("m=audio 9 RTP/AVP 96 8 18 101 97\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n"
     "a=rtpmap:97 telephone-event/48000", None),             # nothing would change
    ("m=audio 9 RTP/AVP 9 101\r\na=rtpmap:101 telephone-event/8000", None),          # nobody can talk by events
    ("m=audio 0 RTP/AVP 18 0", "18"),                        # as to OPTIONS (RFC 3264 §9)
    ("m=audio 9 RTP/SAVP 18", "8 101"),                      # of use to nobody: as if it had said nothing
    ("m=video 9 RTP/AVP 98", "8 101"),
])
def test_or_with_what_the_refusal_says_that_it_can(can: str, formats: str | None) -> None:
    found = less((SESSION + WIDE).encode(), (SESSION + can + "\r\n").encode())
    left = None if found is None else " ".join(parse(found[0]).media[0].formats)
    assert left == formats


def test_other_streams_of_a_later_offer_are_left_alone() -> None:
    body = narrowed((SESSION + WIDE + VIDEO).encode(), frozenset({"G729/8000"})).decode()
    assert "m=audio 4000 RTP/AVP 18\r\n" in body
    assert body.endswith(VIDEO)


def test_an_offer_that_has_nothing_else_stays_as_it_is() -> None:
    offer = (SESSION + AUDIO).replace("\r\n", "\n").encode()
    assert narrowed(offer, frozenset({"PCMA/8000", "PCMU/8000", "TELEPHONE-EVENT/8000"})) is offer
    assert less(b"", b"") is None
