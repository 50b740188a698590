"""What is left to offer to who refused an offer with 488, 606 or 415 (RFC 3261 §21.4.26)."""

from __future__ import annotations

from b2bua.sdp.session import SdpError, encode, is_voice, parse

PLAIN = frozenset({"PCMA/8000", "PCMU/8000", "TELEPHONE-EVENT/8000"})     # what everybody is supposed to speak


def fewer_codecs(offer: bytes, refusal: bytes) -> bytes:
    """The audio of the offer with the codecs that the refusal names, else G.711 and telephone-event; b"" when that
    leaves no voice, or all that was offered already. Other media are not offered again."""
    try:
        session = parse(offer)
    except SdpError:
        return b""
    audio = next((media for media in session.media if media.kind == "audio" and media.port), None)
    if audio is None:
        return b""
    wanted, codecs = _named(refusal) or PLAIN, audio.codecs()
    kept = tuple(text for text in audio.formats if text.isdigit() and codecs.get(int(text), "").upper() in wanted)
    others = any(media.port for media in session.media if media is not audio)
    if not any(is_voice(codecs[int(text)]) for text in kept) or (kept == audio.formats and not others):
        return b""
    lines = ["v=0", *(line for line in session.lines if not line.startswith("v="))]
    for media in session.media:
        if media is not audio:
            lines.append(f"m={media.rejected().head}")
            continue
        lines.append(f"m=audio {media.port} {media.protocol} {' '.join(kept)}")
        lines += [line for line in media.lines if _belongs(line, kept)]
    return encode(lines)


def _named(refusal: bytes) -> frozenset[str]:
    """The codecs of a session description in the refusal (RFC 3261 §21.4.26), if it has one with voice."""
    try:
        audio = [media for media in parse(refusal).media if media.kind == "audio"]
    except SdpError:
        return frozenset()
    codecs = frozenset(codec.upper() for media in audio for codec in media.codecs().values())
    return codecs if any(map(is_voice, codecs)) else frozenset()


def _belongs(line: str, kept: tuple[str, ...]) -> bool:
    if not line.startswith(("a=rtpmap:", "a=fmtp:", "a=rtcp-fb:")):
        return True
    return line.partition(":")[2].lstrip().partition(" ")[0] in (*kept, "*")
