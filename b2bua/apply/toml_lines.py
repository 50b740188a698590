"""Where each key of a TOML file stands (TOML 1.0), so that a fault can be shown with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]

_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_AT_LINE = re.compile(r"at line (\d+)")


class TomlSyntax(ValueError):
    """The text is no TOML."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class LocatedToml:
    """A parsed file and the line of each of its keys."""

    data: dict[str, Any]
    lines: dict[Path, int]

    def line(self, path: Sequence[str | int]) -> int | None:
        """The line of this key, or of the nearest table around it; None when nothing of it is in the file."""
        for length in range(len(path), 0, -1):
            if (line := self.lines.get(tuple(path[:length]))) is not None:
                return line
        return None


def locate(text: str) -> LocatedToml:
    """Parse, and remember the lines. Raises TomlSyntax."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _AT_LINE.search(str(error))
        end = text.rstrip().count("\n") + 1
        raise TomlSyntax(_AT_LINE.sub("", str(error)).replace(" (, ", " (").replace(" ()", ""),
                         int(found[1]) if found else end) from error
    return LocatedToml(data, _Scanner(text.replace("\r\n", "\n")).scan())


class _Scanner:
    """Walks text that is known to be valid TOML, so it need not judge, only count lines."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._lines: dict[Path, int] = {}
        self._last_of: dict[Path, int] = {}        # arrays of tables: index of the newest element

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip_blank():
            if self._text.startswith("[[", self._at):
                table = self._array_header()
            elif self._text[self._at] == "[":
                self._move(1)
                table = self._resolve(self._keys())
                self._move_past("]")
            else:
                self._assignment(table)
        return self._lines

    def _array_header(self) -> Path:
        self._move(2)
        keys = self._keys()
        parent = (*self._resolve(keys[:-1]), keys[-1])
        index = self._last_of[parent] = self._last_of.get(parent, -1) + 1
        self._note(parent)
        self._note((*parent, index))
        self._move_past("]]")
        return (*parent, index)

    def _resolve(self, keys: Path) -> Path:
        """Keys of a header, with the newest element of each array of tables on the way."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            self._note(path)
            if path in self._last_of:
                path = (*path, self._last_of[path])
        return path

    def _assignment(self, table: Path) -> None:
        self._skip_blank()
        line = self._line
        path = table
        for key in self._keys():
            path = (*path, key)
            self._lines.setdefault(path, line)
        self._move_past("=")
        self._value(path)

    def _keys(self) -> Path:
        keys: list[str] = []
        while True:
            self._skip_spaces()
            found = _KEY.match(self._text, self._at)
            assert found is not None, "tomllib accepted this text"
            self._move(len(found[0]))
            keys.append(_unquoted(found[0]))
            self._skip_spaces()
            if not self._text.startswith(".", self._at):
                return tuple(keys)
            self._move(1)

    def _value(self, path: Path) -> None:
        self._skip_spaces()
        match self._text[self._at]:
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case '"' | "'" as quote:
                self._string(quote)
            case _:
                while self._at < len(self._text) and self._text[self._at] not in ",]}#\n":
                    self._move(1)

    def _array(self, path: Path) -> None:
        self._move(1)
        index = 0
        while True:
            self._skip_blank()
            if self._text[self._at] == "]":
                self._move(1)
                return
            self._note((*path, index))
            self._value((*path, index))
            index += 1
            self._skip_blank()
            if self._text[self._at] == ",":
                self._move(1)

    def _inline_table(self, path: Path) -> None:
        self._move(1)
        while True:
            self._skip_blank()
            if self._text[self._at] == "}":
                self._move(1)
                return
            self._assignment(path)
            self._skip_blank()
            if self._text[self._at] == ",":
                self._move(1)

    def _string(self, quote: str) -> None:
        long = self._text.startswith(quote * 3, self._at)
        closing = quote * 3 if long else quote
        self._move(len(closing))
        while not self._text.startswith(closing, self._at):
            self._move(2 if quote == '"' and self._text[self._at] == "\\" else 1)
        self._move(len(closing))
        while long and self._text.startswith(quote, self._at):         # """a""""" ends in two quotes of its own
            self._move(1)

    def _note(self, path: Path) -> None:
        self._lines.setdefault(path, self._line)

    def _skip_spaces(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in " \t":
            self._move(1)

    def _skip_blank(self) -> bool:
        """Past spaces, line ends and comments; False at the end of the text."""
        while self._at < len(self._text):
            if self._text[self._at] == "#":
                self._at = self._text.find("\n", self._at)
                if self._at < 0:
                    self._at = len(self._text)
            elif self._text[self._at] in " \t\n":
                self._move(1)
            else:
                return True
        return False

    def _move_past(self, mark: str) -> None:
        self._skip_spaces()
        self._move(len(mark))

    def _move(self, count: int) -> None:
        self._line += self._text.count("\n", self._at, self._at + count)
        self._at += count


def _unquoted(key: str) -> str:
    if key[0] not in "\"'":
        return key
    return next(iter(tomllib.loads(f"{key} = 0")))
