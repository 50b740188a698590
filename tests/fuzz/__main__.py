"""Fuzz one target by coverage. Run by `scripts/soak fuzz`, as atheris is no dependency of the project:

python -m tests.fuzz TARGET CORPUS [libFuzzer's options]; CORPUS is a folder that keeps what was interesting.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["b2bua"]):
    from tests.fuzz.targets import SEEDS, TARGETS


def main() -> None:
    program, target, corpus, *options = sys.argv
    seeds = [str(folder) for folder in SEEDS[target]]
    atheris.Setup([program, *options, corpus, *seeds], TARGETS[target])
    atheris.Fuzz()


main()
