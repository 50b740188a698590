"""The pipelines of a stand-in account and their stages."""

from __future__ import annotations

from dataclasses import dataclass, field

from b2bua.sandbox.entities import LOST, WON

ORDINARY, UNSORTED = 0, 1              # types of a stage
_LAST_SORT = {WON: 10_000, LOST: 11_000}


@dataclass(frozen=True, slots=True)
class Stage:
    id: int
    name: str
    type: int = ORDINARY


@dataclass(slots=True)
class Pipeline:
    """Its stages in their order: the unsorted one first, won and lost last."""

    id: int
    name: str
    is_main: bool
    is_unsorted_on: bool
    stages: dict[int, Stage] = field(default_factory=dict)

    @property
    def first_stage(self) -> int:
        """Where a lead begins."""
        return next((stage.id for stage in self.stages.values() if stage.type == ORDINARY), WON)

    @property
    def unsorted_stage(self) -> int:
        return next((stage.id for stage in self.stages.values() if stage.type == UNSORTED), self.first_stage)

    def sort_of(self, stage: Stage) -> int:
        return _LAST_SORT.get(stage.id, (list(self.stages).index(stage.id) + 1) * 10)


def new_pipeline(
    number: int, name: str, stages: tuple[tuple[int, str], ...], *, is_main: bool, is_unsorted_on: bool = True
) -> Pipeline:
    """`stages`: ids and names, without those that every pipeline has."""
    all_stages = [
        Stage(number * 1_000, "Неразобранное", UNSORTED), *(Stage(*stage) for stage in stages),
        Stage(WON, "Успешно реализовано"), Stage(LOST, "Закрыто и не реализовано"),
    ]
    return Pipeline(number, name, is_main, is_unsorted_on, {stage.id: stage for stage in all_stages})
