"""Extensions as CSV, out and in, as spreadsheets write it: RFC 4180, and `;` with a byte order mark, as in Russia.

Spreadsheets take a cell that begins with = + - or @ for a formula, and +79161234567 for a number without its plus. Such
a cell goes out with an apostrophe before it, which comes off again when it comes in: text that nobody has touched comes
back as it went. No password ever goes out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from b2bua.apply.entries import Entry, ExtensionEntry
from b2bua.apply.office import Edit, Office, Part, Thing, said, secrets_of
from b2bua.faults import did_you_mean
from b2bua.phrases import Phrase

MOST_ROWS = 5_000
MOST_COLUMNS = 50
LARGEST = 1_000_000                    # characters of a whole sheet
BYTE_ORDER_MARK = "\ufeff"
COLUMNS = tuple(name for name in ExtensionEntry.model_fields if name not in secrets_of(ExtensionEntry))
_KNOWN = (*COLUMNS, "password")
_DELIMITERS = ";,\t"
_FORMULA = "=+-@\t\r'"                 # what a cell must not begin with, and what takes that away
_SWITCHES = tuple(name for name, field in ExtensionEntry.model_fields.items() if field.annotation is bool)
_YES_AND_NO = {"да": "true", "нет": "false", "истина": "true", "ложь": "false"}      # the latter are Excel's own


@dataclass(frozen=True, slots=True)
class SheetFault:
    line: int
    field: str                         # "": the whole row
    problem: str
    remedy: str


class BadSheet(Exception):
    """The sheet cannot be read; all that is wrong with it."""

    def __init__(self, faults: Sequence[SheetFault]) -> None:
        super().__init__("; ".join(f"line {one.line}: {one.problem}" for one in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a sheet asks for, for `Offices.check` and `Offices.change`."""

    edits: tuple[Edit, ...]
    lines: tuple[int, ...]             # where each edit stands; 0 of what goes because it is not there
    made: Mapping[str, str]            # number -> password, for phones that had none and were given none


def written(office: Office, delimiter: str = ";") -> str:
    out = io.StringIO()
    rows = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
    rows.writerow(COLUMNS)
    for entry in office.all_of(Part.EXTENSION).values():
        rows.writerow([_out(getattr(entry, name)) for name in COLUMNS])
    return BYTE_ORDER_MARK + out.getvalue()


def read(text: str, office: Office, new_password: Callable[[], str], *, removes_others: bool = False) -> Sheet:
    """Columns that are not there leave an extension as it is; an empty cell means the default. Raises BadSheet."""
    if len(text) > LARGEST:
        raise BadSheet([_fault(1, "", "the sheet has more than {most} characters", "Import it in parts.",
                               most=LARGEST)])
    text = text.removeprefix(BYTE_ORDER_MARK)
    first, _, rest = text.partition("\n")
    skipped = 0
    if first.rstrip("\r").lower() in {f"sep={one}" for one in _DELIMITERS}:     # Excel's own first line
        text, skipped = rest, 1
    rows = _rows(text, skipped)
    line, header = next(rows, (1, []))
    columns = [name.strip().lower() for name in _filled(header)]
    _check_header(columns, line)
    before = office.all_of(Part.EXTENSION)
    edits, lines, made, faults = list[Edit](), list[int](), dict[str, str](), list[SheetFault]()
    seen: dict[str, int] = {}
    for count, (line, row) in enumerate(rows):
        cells = _filled(row)
        if count >= MOST_ROWS:
            faults.append(_fault(line, "", "there are more than {most} rows", "Import them in parts.", most=MOST_ROWS))
            break
        if len(cells) > len(columns):
            faults.append(_fault(line, "", "the row has {cells} cells, and there are {columns} columns",
                                 "Put quotes around text that has the delimiter in it.", cells=len(cells),
                                 columns=len(columns)))
            continue
        given = {name: _in(name, cell) for name, cell in zip_longest(columns, cells, fillvalue="")}
        number = given.get("number", "")
        if number in seen:
            faults.append(_fault(line, "number", "extension {number} stands in line {other} already",
                                 "Keep one of the two.", number=number, other=seen[number]))
            continue
        seen[number] = line
        values = _values(given, before.get(number))
        if number not in before and not {"password", "address"} & values.keys():
            values["password"] = made[number] = new_password()
        edits.append(Edit(Thing(Part.EXTENSION, number if number in before else ""), values))
        lines.append(line)
    if not edits and not faults:
        faults.append(_fault(1, "", "there is no row below the header", "Add a row for each extension."))
    if faults:
        raise BadSheet(faults)
    gone = [number for number in before if number not in seen] if removes_others else []
    return Sheet((*edits, *(Edit(Thing(Part.EXTENSION, number), None) for number in gone)),
                 (*lines, *(0 for _ in gone)), made)


def _values(given: Mapping[str, str], known: Entry | None) -> dict[str, Any]:
    values: dict[str, Any] = {**(said(known) if known is not None else {}), **given}
    return {name: value for name, value in values.items() if value != ""}


def _filled(row: list[str]) -> list[str]:
    """Spreadsheets add empty cells at the end."""
    end = len(row)
    while end and not row[end - 1].strip():
        end -= 1
    return row[:end]


def _rows(text: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty, with its line. Raises BadSheet."""
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=header.count), strict=True)
    while True:
        line = reader.line_num + 1 + skipped
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise BadSheet([_fault(line, "", "this is no CSV: {why}", "Save the sheet as CSV again.",
                                   why=str(error))]) from None
        if row is None:
            return
        if any(cell.strip() for cell in row):
            yield line, row


def _check_header(columns: Sequence[str], line: int) -> None:
    """Raises BadSheet."""
    if len(columns) > MOST_COLUMNS:
        raise BadSheet([_fault(line, "", "there are more than {most} columns", "See how the export has them.",
                               most=MOST_COLUMNS)])
    faults = []
    for place, name in enumerate(columns):
        if name not in _KNOWN:
            faults.append(_fault(line, name, "there is no column {name!r}", did_you_mean(name[:40], _KNOWN),
                                 name=name[:40]))
        elif name in columns[:place]:
            faults.append(_fault(line, name, "there are two columns {name}", "Keep one of the two.", name=name))
    if "number" not in columns:
        faults.append(_fault(line, "number", "there is no column number", "The first row names the columns: {known}.",
                             known=", ".join(_KNOWN)))
    if faults:
        raise BadSheet(faults)


def _fault(line: int, field: str, problem: str, remedy: str, **values: object) -> SheetFault:
    return SheetFault(line, field, Phrase(problem, **values),
                      remedy if isinstance(remedy, Phrase) else Phrase(remedy, **values))


def _out(value: object) -> str:
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"'{text}" if text[:1] in _FORMULA and text else text


def _in(column: str, cell: str) -> str:
    cell = cell.strip()
    if column in _SWITCHES:
        return _YES_AND_NO.get(cell.lower(), cell)
    return cell[1:] if cell[:1] == "'" and cell[1:2] and cell[1:2] in _FORMULA else cell
