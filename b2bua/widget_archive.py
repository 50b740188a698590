"""The widget as an archive that amoCRM and Kommo take: the files of widget/ with the server's address put in."""

from __future__ import annotations

import io
import ipaddress
import json
import re
import zipfile
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

WIDGET = Path(__file__).parents[1] / "widget"      # beside this package in a checkout and where it is installed
PLACEHOLDER = "https://pbx.example.org"            # what stands in the files for the server's address
ADDRESSED = {"script.js": f"const SERVER = '{PLACEHOLDER}';", "manifest.json": f'"link": "{PLACEHOLDER}"'}
ARCHIVE_NAME = "widget.zip"                        # amoCRM takes no other
LONGEST_URL = 200                                  # characters

_EPOCH = (1980, 1, 1, 0, 0, 0)                     # of each file: the same input makes the same bytes
_PLAIN_URL = re.compile(r"[A-Za-z0-9.:/_~\[\]-]+")  # nothing that would end a string of JavaScript


class UnusableUrl(ValueError):
    """The text says what is wrong with the address, and how to write it."""


def server_url(url: str) -> str:
    """The address as the widget uses it, without a slash at its end. Raises UnusableUrl."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if not host or len(url) > LONGEST_URL or not _PLAIN_URL.fullmatch(url):
        raise UnusableUrl(f"{url!r} is no address of a web server; write it like {PLACEHOLDER}")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise UnusableUrl(f"{url} does not begin with https://, and browsers send nothing from amoCRM's pages to it "
                          "otherwise (http:// is for a server on the same machine alone)")
    if "//" in parts.path or "/." in parts.path:
        raise UnusableUrl(f"{url} has an odd path; write it like {PLACEHOLDER}")
    return url.rstrip("/")


def build(url: str) -> bytes:
    """The archive, with its files at the root. Raises UnusableUrl."""
    address = server_url(url)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for file in _files():
            entry = zipfile.ZipInfo(file.relative_to(WIDGET).as_posix(), _EPOCH)
            entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            packed.writestr(entry, _content(file, address), compresslevel=9)
    return archive.getvalue()


def _files() -> list[Path]:
    return sorted(file for file in WIDGET.rglob("*") if file.is_file() and not file.name.startswith("."))


def _content(file: Path, address: str) -> bytes:
    content = file.read_bytes()
    if (place := ADDRESSED.get(file.name)) is None:
        return content
    text = content.decode()
    if text.count(place) != 1:
        raise RuntimeError(f"{file} should say {place} once")
    text = text.replace(place, place.replace(PLACEHOLDER, address))
    return (text if file.name != "manifest.json" else _of_this_version(text)).encode()


def _of_this_version(manifest: str) -> str:
    """Browsers keep the files of a version."""
    now = json.loads(manifest)["widget"]["version"]
    return manifest.replace(f'"version": "{now}"', f'"version": "{version("smartswitch")}"')


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
