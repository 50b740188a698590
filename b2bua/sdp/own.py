"""What we say of ourselves when we are the other end of a stream, to play something: G.711, both ways (RFC 3264)."""

from __future__ import annotations

from b2bua.sdp.negotiation import carried_audio
from b2bua.sdp.session import SessionDescription, parse

G711 = ("PCMA/8000", "PCMU/8000")


def own_offer() -> SessionDescription:
    return _described({8: "PCMA/8000", 0: "PCMU/8000"}, "sendrecv")


def own_answer(offer: SessionDescription) -> SessionDescription:
    """Without any codec of theirs that we have it takes no audio. Raises NotAcceptable."""
    media = carried_audio(offer)
    codecs = {number: codec for number, codec in media.codecs().items() if codec.upper() in G711}
    direction = media.direction or offer.direction
    return _described(codecs, direction.mirrored.value if direction is not None else "sendrecv")


def _described(codecs: dict[int, str], direction: str) -> SessionDescription:
    """Its address is not shown to anybody: each side sees the relay's."""
    audio = f"m=audio {9 if codecs else 0} RTP/AVP {' '.join(map(str, codecs)) or 0}\r\n"
    maps = "".join(f"a=rtpmap:{number} {codec}\r\n" for number, codec in codecs.items())
    return parse(f"v=0\r\no=- 0 0 IN IP4 switch.invalid\r\nc=IN IP4 switch.invalid\r\n"
                 f"{audio}{maps}a=ptime:20\r\na={direction}\r\n".encode())
