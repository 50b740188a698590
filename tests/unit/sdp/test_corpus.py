"""A verdict for each session description of the corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from b2bua.sdp.negotiation import Face, NotAcceptable, relay_offer
from b2bua.sdp.session import parse

CORPUS = Path(__file__).parents[2] / "corpora" / "sdp"
CARRIED, NO_PLAIN_AUDIO, MULTICAST = "carried", "no plain RTP/AVP audio", "multicast is not relayed"
VERDICTS = {
    "alac": NO_PLAIN_AUDIO, "bfcp": CARRIED, "dante-aes67": MULTICAST, "extmap-encrypt": NO_PLAIN_AUDIO,
    "hacky": NO_PLAIN_AUDIO, "icelite": NO_PLAIN_AUDIO, "invalid": CARRIED, "jsep": NO_PLAIN_AUDIO,
    "jssip": NO_PLAIN_AUDIO, "mediaclk-avbtp": MULTICAST, "mediaclk-ptp-v2": MULTICAST,
    "mediaclk-ptp-v2-w-rate": MULTICAST, "mediaclk-rtp": MULTICAST, "normal": NO_PLAIN_AUDIO, "onvif": NO_PLAIN_AUDIO,
    "rtcp-fb": CARRIED, "sctp-dtls-26": NO_PLAIN_AUDIO, "simulcast": CARRIED, "ssrc": NO_PLAIN_AUDIO,
    "st2022-6": NO_PLAIN_AUDIO, "st2110-20": NO_PLAIN_AUDIO, "tcp-active": NO_PLAIN_AUDIO,
    "tcp-passive": NO_PLAIN_AUDIO, "ts-refclk-media": MULTICAST, "ts-refclk-sess": MULTICAST,
}


def test_every_file_has_a_verdict() -> None:
    assert {path.stem for path in CORPUS.glob("*.sdp")} == set(VERDICTS)


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_nothing_is_lost_between_parsing_and_writing(name: str) -> None:
    body = (CORPUS / f"{name}.sdp").read_bytes()
    assert bytes(parse(body)).split() == body.split()


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_what_becomes_of_it_as_an_offer(name: str) -> None:
    offer = parse((CORPUS / f"{name}.sdp").read_bytes())
    face = Face("198.51.100.1", 20000, 1)
    if VERDICTS[name] != CARRIED:
        with pytest.raises(NotAcceptable, match=VERDICTS[name]):
            relay_offer(offer, face)
        return
    relayed = relay_offer(offer, face)
    assert len(parse(relayed.body).media) == len(offer.media)
    assert b"candidate" not in relayed.body
