"""Whatever is tried outside, in whatever rhythm: no limit is passed within any hour, and nothing stays counted."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.calls.allowance import MINUTE, WINDOW, Allowance, Limit, Window
from b2bua.cdr import CallId, ClientId
from b2bua.directory import Client, Directory, Extension, PrefixLimit

HOUR = WINDOW * MINUTE
LIMITS = (
    PrefixLimit("+", per_hour=6), PrefixLimit("+8", max_calls=2), PrefixLimit("+88", refused=True),
    PrefixLimit("+886", per_hour=2),
)
CLIENT = Client(ClientId("acme"), "Acme", outgoing_per_hour=9, limits=LIMITS)
EXTENSIONS = tuple(Extension(CLIENT.id, number, number, {}, outgoing_per_hour=4) for number in ("101", "102"))
NUMBERS = {"+4420": "+", "+8120": "+8", "+8820": "+88", "+8860": "+886", "900": None}

STEPS = st.lists(st.tuples(
    st.sampled_from(["spend", "spend", "spend", "back", "leave", "reload"]), st.integers(0, 5),
    st.sampled_from([*EXTENSIONS, None]), st.sampled_from(list(NUMBERS)), st.floats(0, HOUR / 4),
), max_size=80)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_no_limit_is_passed_and_nothing_stays(
    steps: list[tuple[str, int, Extension | None, str, float]]
) -> None:
    allowance, now = Allowance(), 0.0
    made: list[tuple[float, Extension | None, str | None]] = []
    live: list[tuple[int, str]] = []
    directory = Directory((CLIENT,), EXTENSIONS)

    def within(seconds: float, extension: Extension | None = None, prefix: str | None = None) -> int:
        return sum(at > now - seconds and extension in (None, by) and prefix in (None, to) for at, by, to in made)

    def at_once(prefix: str) -> int:
        return sum(NUMBERS[number] == prefix for _, number in live)

    for what, call, extension, number, passes in steps:
        now += passes
        match what:
            case "spend":
                refusal = allowance.spend(CallId(str(call)), CLIENT, extension, number, now)
                if refusal is None:
                    made.append((now, extension, NUMBERS[number]))
                    live.append((call, number))
                else:
                    _met(refusal.limit, within, extension, NUMBERS[number], at_once)
            case "back":
                allowance.give_back(CallId(str(call)), number)
                if (call, number) in live:
                    live.remove((call, number))
            case "leave":
                allowance.leave(CallId(str(call)))
                live = [entry for entry in live if entry[0] != call]
            case _:
                allowance.use(directory)
        assert within(HOUR) <= CLIENT.outgoing_per_hour
        assert all(within(HOUR, one) <= one.outgoing_per_hour for one in EXTENSIONS)
        assert within(HOUR, prefix="+") <= 6
        assert within(HOUR, prefix="+886") <= 2
        assert within(HOUR, prefix="+88") == 0
        assert at_once("+8") <= 2
    for call in range(6):
        allowance.leave(CallId(str(call)))
    assert not allowance._at_once
    assert not allowance._held
    allowance.use(Directory())
    assert not allowance._windows


def _met(limit, within, extension, prefix, at_once) -> None:  # type: ignore[no-untyped-def]
    """Nobody is refused without cause: within an hour and a minute there were so many."""
    hour = HOUR + MINUTE
    match limit:
        case Limit.CLIENT_PER_HOUR:
            assert within(hour) >= CLIENT.outgoing_per_hour
        case Limit.EXTENSION_PER_HOUR:
            assert within(hour, extension) >= extension.outgoing_per_hour
        case Limit.PREFIX_PER_HOUR:
            assert within(hour, prefix=prefix) >= {"+": 6, "+886": 2}[prefix]
        case Limit.PREFIX_CALLS:
            assert prefix == "+8"
            assert at_once(prefix) == 2
        case _:
            assert limit is Limit.PREFIX_REFUSED
            assert prefix == "+88"


@given(st.lists(st.floats(0, 300), max_size=400))
def test_a_window_has_a_bounded_size(pauses: list[float]) -> None:
    window, now = Window(), 0.0
    for pause in pauses:
        now += pause
        window.add(now)
        window.count(now)
        assert len(window._minutes) <= WINDOW + 1
