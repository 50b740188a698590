"""The raw recording: what came, as it came, with the time; written during the call, read after it.

A file is a JSON line (format, recording, wall time of the start), then records: kind, length, microseconds since the
start, data. Kinds: META, a JSON object of each side's payload types, first and whenever they change; CALLER and CALLEE,
a whole RTP packet of that side. A record that is cut short, or of no known kind (a tail of zeros after a power cut),
ends the file.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

FORMAT = "smartswitch raw 1"
CALLER, CALLEE, META = 0xC1, 0xC2, 0xCA
SUFFIX = ".raw"
FOLDER = "raw"
MAX_HEADER = 4096
_RECORD = struct.Struct(">BHQ")
record_head = _RECORD.pack              # (kind, length, microseconds): used on the packet path
_ID = re.compile(r"[A-Za-z0-9_-]{16,64}")

Codecs = Mapping[int, str]              # payload type -> encoding


class NotRaw(ValueError):
    """The file does not begin as a raw recording."""


@dataclass(frozen=True, slots=True)
class CodecsKnown:
    """From here on each side's packets mean this (caller, callee)."""

    codecs: tuple[Codecs, Codecs]


@dataclass(frozen=True, slots=True)
class Packet:
    side: int                           # 0 caller, 1 callee
    arrived: float                      # seconds since the start
    rtp: bytes


def is_recording_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def header(recording: str, started_at: datetime) -> bytes:
    head = {"format": FORMAT, "recording": recording, "started_at": started_at.isoformat()}
    return json.dumps(head).encode() + b"\n"


def codecs_record(codecs: Sequence[Codecs], microseconds: int) -> bytes:
    data = json.dumps({"caller": dict(codecs[0]), "callee": dict(codecs[1])}).encode()
    return record_head(META, len(data), microseconds) + data


def read(file: BinaryIO) -> Iterator[CodecsKnown | Packet]:
    """The records up to the end, or to where the file was torn. Raises NotRaw."""
    started_at(file.readline(MAX_HEADER))
    while len(head := file.read(_RECORD.size)) == _RECORD.size:
        kind, length, microseconds = _RECORD.unpack(head)
        data = file.read(length)
        if len(data) < length:
            return
        match kind:
            case 0xC1 | 0xC2:
                yield Packet(kind - CALLER, microseconds / 1e6, data)
            case 0xCA if (codecs := _codecs(data)) is not None:
                yield codecs
            case _:
                return


def started_at(line: bytes) -> datetime:
    """When, by the header line. Raises NotRaw."""
    try:
        head = json.loads(line)
        if head["format"] != FORMAT:
            raise NotRaw("another format")
        return datetime.fromisoformat(head["started_at"])
    except NotRaw:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise NotRaw("no header") from error


def _codecs(data: bytes) -> CodecsKnown | None:
    try:
        sides = json.loads(data)
        caller, callee = ({int(number): str(codec) for number, codec in sides[side].items()}
                          for side in ("caller", "callee"))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return CodecsKnown((caller, callee))
