"""The targets of `scripts/soak fuzz` hold for their seeds, and for what a few random changes make of them."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.targets import SEEDS, TARGETS

ROUNDS = 8                                # changed copies of each seed
PIECES = (b"\r\n", b"\0", b"<", b">", b'"', b"\\", b",", b";", b"%", b"\xff", b" ", b"\t", b":", b"=", b"-1",
          b"4294967296")


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_what_is_like_them_show_no_fault(target: str) -> None:
    dice = Random(target)
    seeds = [path for folder in SEEDS[target] for path in sorted(folder.iterdir()) if path.is_file()]
    assert seeds
    for seed in seeds:
        data = seed.read_bytes()
        TARGETS[target](data)
        for _ in range(ROUNDS):
            TARGETS[target](changed(data, dice))


def changed(data: bytes, dice: Random) -> bytes:
    for _ in range(dice.randrange(1, 5)):
        at, to = sorted(dice.randrange(len(data) + 1) for _ in range(2))
        match dice.randrange(4):
            case 0:
                data = data[:at] + dice.choice(PIECES) + data[at:]
            case 1:
                data = data[:at] + data[min(to, at + 8):]
            case 2:
                data = data[:at] + data[at:min(to, at + 40)] + data[at:]
            case _:
                data = data[:at] + bytes([dice.randrange(256)]) + data[at + 1:]
    return data
