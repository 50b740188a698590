"""Whatever comes, goes and is transferred: no limit is passed, and nothing stays counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.calls.capacity import Capacity
from b2bua.cdr import CallId, ClientId
from b2bua.directory import Client, Trunk

SERVER, PER_CLIENT, PER_TRUNK = 5, 3, 2
CLIENTS = {name: Client(ClientId(name), name, max_calls=PER_CLIENT) for name in ("acme", "umbrella")}
TRUNKS = {
    (client, name): Trunk(ClientId(client), name, "192.0.2.1", max_calls=PER_TRUNK)
    for client in CLIENTS for name in ("one", "two")
}


@dataclass
class Held:
    client: str
    line: str | None
    second: str | None = None


STEPS = st.lists(st.tuples(
    st.sampled_from(["enter", "leave", "take", "transfer", "back"]), st.integers(0, 7), st.sampled_from(list(CLIENTS)),
    st.sampled_from(["one", "two", None]),
), max_size=60)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_limits_hold_and_nothing_stays(steps: list[tuple[str, int, str, str | None]]) -> None:
    capacity, model = Capacity(SERVER), dict[int, Held]()

    def taken(client: str, trunk: str) -> int:
        held = (call for call in model.values() if call.client == client)
        return sum((call.line == trunk) + (call.second == trunk) for call in held)

    for what, number, client, trunk in steps:
        call, there = CallId(str(number)), model.get(number)
        match what, there, trunk:
            case "enter", None, _:
                full = trunk is not None and taken(client, trunk) >= PER_TRUNK
                of_client = Counter(held.client for held in model.values())[client]
                refused = len(model) >= SERVER or of_client >= PER_CLIENT or full
                line = None if trunk is None else TRUNKS[client, trunk]
                assert (capacity.reached(CLIENTS[client], line) is not None) == refused
                if not refused:
                    capacity.enter(call, CLIENTS[client].id, trunk)
                    model[number] = Held(client, trunk)
            case "leave", _, _:
                capacity.leave(call)
                model.pop(number, None)
            case "take", Held(), str():
                there.line = None
                refused = taken(there.client, trunk) >= PER_TRUNK
                assert (capacity.take_line(call, TRUNKS[there.client, trunk]) is not None) == refused
                there.line = None if refused else trunk
            case "transfer", Held(), str():
                there.second = None
                refused = taken(there.client, trunk) >= PER_TRUNK
                assert (capacity.take_second_line(call, TRUNKS[there.client, trunk]) is not None) == refused
                there.second = None if refused else trunk
            case "back", _, _:
                capacity.leave_second_line(call)
                if there is not None:
                    there.second = None
        assert len(capacity) == len(model)
    for number in range(8):
        capacity.leave(CallId(str(number)))
    assert not capacity._taken
