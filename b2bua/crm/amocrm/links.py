"""The recording of a call that was told without it (F4): its link is added to the note."""

from __future__ import annotations

from b2bua.crm.amocrm import calls
from b2bua.crm.amocrm.gate import Lane
from b2bua.crm.amocrm.rows import Row, as_row, integer, text
from b2bua.crm.amocrm.writing import WRITE_SECONDS, Desk, made_for, read
from b2bua.crm.port import Delivered, Made, MadeKind, RecordingLink


async def add(desk: Desk, link: RecordingLink, known: tuple[Made, ...]) -> Delivered:
    """What is there already is left alone, so that a repeat needs no other look."""
    if link.recording is None:
        return Delivered("no recording")
    found = await _note_of(desk, link, known)
    if found is None:
        return Delivered("the note is gone")
    on, path, note = found
    said = as_row(note.get("params"))
    if text(said, "link"):
        return Delivered("the link is there", card=on)
    body = {"note_type": text(note, "note_type"), "params": _params(said, desk.link_of(link.recording))}
    answer = await desk.api.patch(path, body, Lane.WRITE, WRITE_SECONDS)
    if answer.status == 404:
        return Delivered("the note is gone")
    answer.row()
    return Delivered("link added", card=on)


async def _note_of(desk: Desk, link: RecordingLink, known: tuple[Made, ...]) -> tuple[str, str, Row] | None:
    """(its card, its path, the note): where it was made; else where its card has gone, if that was merged."""
    made = made_for(known, MadeKind.NOTE, link.call)
    if made is not None and (note := await read(desk, path := f"/api/v4/{made.on}/notes/{made.id}")) is not None:
        return made.on, path, note
    written = await calls.find_written(desk, link.call, link.phone, known)
    if written is None:
        return None
    path = f"/api/v4/{written.on}/notes/{written.id}"
    note = await read(desk, path)
    return None if note is None else (written.on, path, note)


def _params(said: Row, link: str) -> Row:
    """All of them, as nobody says whether amoCRM keeps those that are not sent; without nulls, which it refuses, and
    with the status as a number, which it sometimes reads out as text."""
    params: Row = {name: value for name, value in said.items() if value is not None}
    if (status := integer(said, "call_status")) is not None:
        params["call_status"] = status
    return {**params, "link": link}
