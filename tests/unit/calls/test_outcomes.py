from __future__ import annotations

import pytest

from b2bua.calls.outcomes import Elsewhere, best_of, ended_by, no_way, nobody_answered, not_carried, unanswered
from b2bua.cdr import Disposition, EndedBy, EndReason
from b2bua.sip.effects import EndCause, Party
from b2bua.ua.leg import LegEnd


@pytest.mark.parametrize(
    ("statuses", "best"),
    [
        ([480, 486], 486),
        ([486, 603], 603),
        ([500, 404], 404),
        ([408, 480], 480),
        ([503], 500),
        ([401], 500),
        ([302, 486], 486),
        ([], 480),
    ],
)
def test_the_caller_is_told_the_most_telling_failure(statuses: list[int], best: int) -> None:
    assert best_of([unanswered(status) for status in statuses]).status == best


def test_nobody_to_ring_and_nobody_answering_are_told_apart() -> None:
    assert best_of([]).reason is EndReason.NOTHING_TO_RING
    assert nobody_answered().reason is EndReason.NOBODY_ANSWERED


@pytest.mark.parametrize("status", range(300, 700))
def test_every_final_response_means_something_and_passes_on_no_challenge_or_redirection(status: int) -> None:
    outcome = unanswered(status)
    assert outcome.disposition is not Disposition.ANSWERED
    assert outcome.status >= 400
    assert outcome.status not in (401, 407, 503)


@pytest.mark.parametrize(("statuses", "elsewhere"), [
    ((503,), Elsewhere.TARGET),
    ((*range(300, 400), 401, 407, 408, *range(500, 503), *range(504, 600)), Elsewhere.TRUNK),
    ((400, 402, 403, 404, 480, 484, 486, 487, 488, 491, *range(600, 700)), Elsewhere.NO),
])
def test_which_failures_another_way_may_mend(statuses: tuple[int, ...], elsewhere: Elsewhere) -> None:
    assert {unanswered(status).elsewhere for status in statuses} == {elsewhere}


@pytest.mark.parametrize("cause", EndCause)
def test_a_leg_that_just_ended_speaks_for_its_server_when_nothing_came_of_it(cause: EndCause) -> None:
    nothing = cause in (EndCause.TIMED_OUT, EndCause.TRANSPORT_FAILED)
    assert not_carried(cause).elsewhere is (Elsewhere.TARGET if nothing else Elsewhere.TRUNK)


@pytest.mark.parametrize(("reason", "disposition", "status"), [
    (EndReason.LIMIT_REACHED, Disposition.REFUSED, 503), (EndReason.NOTHING_TO_RING, Disposition.UNREACHABLE, 480)])
def test_our_own_no_to_a_trunk(reason: EndReason, disposition: Disposition, status: int) -> None:
    outcome = no_way(reason)
    assert (outcome.disposition, outcome.status, outcome.elsewhere) == (disposition, status, Elsewhere.TRUNK)


@pytest.mark.parametrize("cause", EndCause)
def test_every_end_of_a_leg_has_a_reason_in_the_books(cause: EndCause) -> None:
    by, reason = ended_by(LegEnd(Party.REMOTE, cause), EndedBy.CALLEE)
    assert by is EndedBy.CALLEE
    assert isinstance(reason, EndReason)
    assert ended_by(LegEnd(Party.LOCAL, cause), EndedBy.CALLEE)[0] is EndedBy.SWITCH
