"""Every key is found in its line, whatever way TOML has of writing it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.apply.toml_lines import Path, TomlSyntax, locate

NASTY = '''\
# comment with [brackets] and = signs
top = "a # no comment"   # but this is
[server]
data_dir = '/x = y'
"quoted key" = 1
a.b.c = true
long = """
[not.a.table]
key = "no"
ends in quotes ""\"""
literal = \'\'\'
[nor this]
\'\'\'

[sip]
listen = [
  # first
  { transport = "udp", port = 5060 },

  { transport = "tcp", port = 5061 },
]
flat = ["a", "b"]

[[client]]
id = "one"
  [[client.trunk]]
  name = "t1"
  [[client.trunk]]
  name = "t2"
  [client.crm]
  base_url = "x"
[[client]]
id = "two"
[[client.trunk]]
name = "t3"
'''


@pytest.mark.parametrize(("path", "line"), [
    (("top",), 2), (("server",), 3), (("server", "data_dir"), 4), (("server", "quoted key"), 5),
    (("server", "a", "b", "c"), 6), (("server", "long"), 7), (("server", "literal"), 11), (("sip",), 15),
    (("sip", "listen"), 16), (("sip", "listen", 0, "port"), 18), (("sip", "listen", 1, "transport"), 20),
    (("sip", "flat", 1), 22), (("client", 0), 24), (("client", 0, "id"), 25), (("client", 0, "trunk", 1, "name"), 29),
    (("client", 0, "crm", "base_url"), 31), (("client", 1, "id"), 33), (("client", 1, "trunk", 0, "name"), 35),
])
def test_a_key_is_found_in_its_line(path: Path, line: int) -> None:
    assert locate(NASTY).line(path) == line


def test_what_is_missing_is_looked_for_where_it_would_stand() -> None:
    assert locate(NASTY).line(("client", 1, "trunk", 0, "host")) == 34
    assert locate(NASTY).line(("nowhere",)) is None


def test_windows_line_ends_count_once() -> None:
    assert locate("a = 1\r\n[b]\r\nc = 2\r\n").line(("b", "c")) == 3


@pytest.mark.parametrize(("text", "line"), [("a = 1\nb = \n", 2), ("[x]\n[x]\n", 2), ("a = 1\nb = 'open", 2)])
def test_a_text_that_is_no_toml_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(TomlSyntax) as refused:
        locate(text)
    assert refused.value.line == line


_key = st.one_of(st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True),
                 st.text("ab \t=#[]{}.,'é", max_size=6).map(lambda text: f'"{text}"'))
_scalar = st.one_of(st.integers().map(str), st.sampled_from(["true", "1979-05-27T07:32:00Z", "inf"]),
                    st.text("ab =#[]{},é", max_size=10).map(lambda text: f'"{text}"'),
                    st.text('ab =#[]{},"\n', max_size=10).map(lambda text: f"'''{text}'''"))
_value = st.recursive(_scalar, lambda inner: st.one_of(
    st.lists(inner, max_size=3).map(lambda items: "[\n" + ",\n# x ] }\n".join(items) + "\n]"),
    st.lists(st.tuples(_key, inner), max_size=3, unique_by=lambda pair: pair[0]).map(
        lambda pairs: "{" + ", ".join(f"{key} = {value}" for key, value in pairs) + "}"),
), max_leaves=6)
_line = st.one_of(st.tuples(_key, _value).map(lambda pair: f"{pair[0]} = {pair[1]}"),
                  st.lists(_key, min_size=1, max_size=3).map(lambda keys: f"[{'.'.join(keys)}]"),
                  st.lists(_key, min_size=1, max_size=2).map(lambda keys: f"[[ {' . '.join(keys)} ]]"),
                  st.just("# comment [x]"), st.just(""))


@settings(max_examples=150, deadline=None)
@given(st.lists(_line, max_size=12).map("\n".join))
def test_every_key_of_any_document_has_a_line_that_holds_it(text: str) -> None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    located = locate(text)
    lines = text.split("\n")
    for path in _paths(located.data):
        line = located.lines[path]
        if isinstance(path[-1], str):
            assert path[-1] in lines[line - 1].replace('\\"', '"')


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _paths(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _paths(below, (*path, index))
