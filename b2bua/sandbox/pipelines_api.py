"""`/api/v4/leads/pipelines` of the stand-in and their stages, reading only."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from b2bua.sandbox.answers import Caller, Refused, caller_of, hal
from b2bua.sandbox.entities import LOST, WON, Json
from b2bua.sandbox.pipelines import UNSORTED, Pipeline, Stage

_PATH = "/api/v4/leads/pipelines"


async def list_pipelines(request: Request) -> Response:
    """Not paged."""
    caller = caller_of(request)
    rows = [_row(caller, pipeline) for pipeline in caller.account.pipelines.values()]
    return hal({"_total_items": len(rows), "_links": caller.self_link(_PATH), "_embedded": {"pipelines": rows}})


async def get_pipeline(request: Request) -> Response:
    return hal(_row(caller_of(request), _pipeline(request)))


async def list_stages(request: Request) -> Response:
    caller, pipeline = caller_of(request), _pipeline(request)
    rows = [_stage_row(caller, pipeline, stage) for stage in pipeline.stages.values()]
    links = caller.self_link(f"{_PATH}/{pipeline.id}/statuses")
    return hal({"_total_items": len(rows), "_links": links, "_embedded": {"statuses": rows}})


async def get_stage(request: Request) -> Response:
    pipeline = _pipeline(request)
    stage = pipeline.stages.get(request.path_params["stage"])
    if stage is None:
        raise Refused(404, "Status not found")
    return hal(_stage_row(caller_of(request), pipeline, stage))


def _pipeline(request: Request) -> Pipeline:
    pipeline = caller_of(request).account.pipelines.get(request.path_params["id"])
    if pipeline is None:
        raise Refused(404, "Pipeline not found")
    return pipeline


def _row(caller: Caller, pipeline: Pipeline) -> Json:
    return {
        "id": pipeline.id,
        "name": pipeline.name,
        "sort": (list(caller.account.pipelines).index(pipeline.id) + 1) * 10,
        "is_main": pipeline.is_main,
        "is_unsorted_on": pipeline.is_unsorted_on and caller.account.is_unsorted_on,
        "is_archive": False,
        "account_id": caller.account.id,
        "_links": caller.self_link(f"{_PATH}/{pipeline.id}"),
        "_embedded": {"statuses": [_stage_row(caller, pipeline, stage) for stage in pipeline.stages.values()]},
    }


def _stage_row(caller: Caller, pipeline: Pipeline, stage: Stage) -> Json:
    return {
        "id": stage.id,
        "name": stage.name,
        "sort": pipeline.sort_of(stage),
        "is_editable": stage.type != UNSORTED and stage.id not in (WON, LOST),
        "pipeline_id": pipeline.id,
        "color": "#c1c1c1" if stage.type == UNSORTED else "#99ccff",
        "type": stage.type,
        "account_id": caller.account.id,
        "_links": caller.self_link(f"{_PATH}/{pipeline.id}/statuses/{stage.id}"),
    }
