"""The archive of the widget: for one server, the same each time, and never for an address that is none."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from b2bua.__main__ import cli
from b2bua.widget_archive import PLACEHOLDER, WIDGET, UnusableUrl, build, server_url
from b2bua.widget_lint import lint
from tests.support.widget_files import URL, good_files, packed, unpacked


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["widget", *(str(one) for one in arguments)])


def test_it_is_made_for_one_server_and_says_the_version_of_the_package() -> None:
    files = good_files()
    assert f"const SERVER = '{URL}';" in files["script.js"].decode()
    manifest = json.loads(files["manifest.json"])["widget"]
    assert (manifest["support"]["link"], manifest["version"]) == (URL, version("smartswitch"))
    assert set(files) == {file.relative_to(WIDGET).as_posix() for file in WIDGET.rglob("*") if file.is_file()}
    assert PLACEHOLDER not in (files["script.js"] + files["manifest.json"]).decode()


def test_the_same_server_gives_the_same_bytes() -> None:
    assert build(URL) == build(f"{URL}/")
    assert build(URL) != build("https://pbx.other.example")


@pytest.mark.parametrize("url", ["https://pbx.example.org:8443/telephony", "https://203.0.113.7", "https://[2001:db8::1]:443",
                                 "http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost", "HTTPS://Pbx.Example.Org"])
def test_addresses_of_servers(url: str) -> None:
    assert server_url(f"{url}/") == server_url(url) == url
    assert lint(build(url)) == []


@pytest.mark.parametrize(("url", "why"), [
    ("http://pbx.example.org", "does not begin with https://"), ("ftp://pbx.example.org", "does not begin with https://"),
    ("http://127.0.0.1.evil.example", "does not begin with https://"),
    ("pbx.example.org", "is no address"), ("https://", "is no address"), ("", "is no address"),
    ("https://user:secret@pbx.example.org", "is no address"), ("https://pbx.example.org/?a=1", "is no address"),
    ("https://pbx.example.org/#top", "is no address"), ("https://pbx.example.org:99999", "is no address"),
    ("https://pbx.example.org:port", "is no address"), ("https://[::1", "is no address"),
    ("https://a';alert(1);'", "is no address"), ("https://пбх.example.org", "is no address"),
    ("https://pbx.example.org\n", "is no address"), (f"https://{'a' * 300}.example", "is no address"),
    ("https://pbx.example.org/../x", "odd path"), ("https://pbx.example.org//x", "odd path"),
])
def test_what_is_no_address_is_refused_in_words(url: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableUrl, match=why):
        build(url)
    refused = run("build", "--url", url, "--out", tmp_path / "widget.zip")
    assert (refused.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert why in refused.stderr


@given(st.text(max_size=30) | st.text("'\"\\;()<>/:.@#?ab\n", max_size=30).map("https://h".__add__))
def test_no_address_breaks_out_of_the_script(url: str) -> None:
    try:
        address = server_url(url)
    except UnusableUrl:
        return
    assert not set("'\"\\\n<> ()@?#") & set(address)


def test_the_command_builds_what_the_command_finds_right(tmp_path: Path) -> None:
    file = tmp_path / "widget.zip"
    built = run("build", "--url", URL, "--out", file)
    assert (built.exit_code, built.stdout) == (0, f"{file}: {file.stat().st_size} bytes, for {URL}.\n")
    assert run("check", file).stdout == f"{file}: no fault found.\n"
    assert "only under the name widget.zip" in run("build", "--url", URL, "--out", tmp_path / "w.zip").stdout
    assert run("build", "--url", URL, "--out", tmp_path / "none" / "widget.zip").exit_code == 1


def test_the_command_names_each_fault(tmp_path: Path) -> None:
    file = tmp_path / "widget.zip"
    files = unpacked(build(URL))
    del files["images/logo.png"], files["i18n/es.json"]
    file.write_bytes(packed(files))
    checked = run("check", file)
    assert checked.exit_code == 1
    assert checked.stderr.splitlines() == [
        f"{file}: i18n/es.json is missing, but widget.locale names es", f"{file}: images/logo.png is missing",
        "2 faults."]
    assert run("check", tmp_path / "nothing.zip").exit_code == 1
