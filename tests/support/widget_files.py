"""The widget's archive taken apart and put together again, with something changed in between."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

from b2bua.widget_archive import build

URL = "https://pbx.acme.example"
Files = dict[str, bytes]


def unpacked(archive: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def packed(files: Files) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packing:
        for name, content in files.items():
            packing.writestr(name, content)
    return archive.getvalue()


def good_files() -> Files:
    return unpacked(build(URL))


def with_json(files: Files, name: str, change: Callable[[Any], object]) -> Files:
    content = json.loads(files[name])
    change(content)
    return {**files, name: json.dumps(content, ensure_ascii=False).encode()}
