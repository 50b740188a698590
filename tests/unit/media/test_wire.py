"""What the switch and the relay say to each other survives the way."""

from __future__ import annotations

from collections import deque

import pytest

from b2bua.media.relay import wire

COMMANDS = [
    wire.Open(1), wire.Remote(1, 0, "192.0.2.1", 4000, "192.0.2.1", 4001, {"8": "PCMA/8000"}, on_hold=False),
    wire.Record(1, "abcdefghijklmnop"), wire.Watch(1), wire.Close(1),
    wire.Sound("busy", 160, 78400), wire.Play(1, 0, 3, "busy", True, False, 8, False), wire.Tune(1, 0, 0, True, False),
    wire.Stop(1, 0), wire.Look(),
]
REPORT = wire.Direction(1, 2, 3, 4.5, 6, "PCMA/8000", 7)
EVENTS = [
    wire.Ready(2500), wire.CannotStart("why"), wire.Opened(1, 20000, 20002), wire.NoPorts(1, "why"), wire.Silent(1),
    wire.Played(1, 0, 3),
    wire.RecordingStopped(1, "abcdefghijklmnop", "No space left on device"),
    wire.Closed(1, REPORT, REPORT, recorded=True),
    wire.Arrivals([wire.Arrival(1, (50, 49), (0, 1), (0.1, 7.5)), wire.Arrival(2, (1, 0), (0, 0), (0.0, 0.0))]),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: wire.Command) -> None:
    [decoded] = wire.commands(wire.encode(command))
    assert (type(decoded), decoded) == (type(command), command)


@pytest.mark.parametrize("event", EVENTS)
def test_events(event: wire.Event) -> None:
    [decoded] = wire.events(wire.encode(event))
    assert (type(decoded), decoded) == (type(event), event)


def test_many_share_a_packet_and_keep_their_order() -> None:
    unsent = deque(wire.encode(wire.Watch(number)) for number in range(wire.MAX_LINES + 5))
    packets = []
    while unsent:
        packets.append(wire.pack(unsent))
        wire.taken(unsent)
    assert len(packets) == 2
    assert [command for packet in packets for command in wire.commands(packet)] == [
        wire.Watch(number) for number in range(wire.MAX_LINES + 5)]
