"""One request of every kind with every path field filled, and ways to change one text of it."""

from typing import Any

import msgspec

from edgeprune.schema.choice import ChoiceRequest
from edgeprune.schema.jobs import (
    ChooseJob,
    CompressJob,
    DemoJob,
    ExplainJob,
    ExportJob,
    FitJob,
    GenerateJob,
    JobRequest,
    LaserJob,
    PlanJob,
    ProfileJob,
    ReportJob,
    RunJob,
    SearchJob,
    TechniqueJob,
    ValidateJob,
)
from edgeprune.schema.run import RunRequest

__all__ = ["CASES", "FILLED", "as_json", "changed_json", "with_text"]

FILLED: list[Any] = [
    RunJob(
        request=RunRequest(
            model="/m", device="/d.json", domain=("/a",), general=("/b",), evaluation=("/c",), also=("/e",),
            questions="/q", recipe="/r.toml",
        ),
        output="run",
    ),
    ChooseJob(
        request=ChoiceRequest(
            models=("/m",), devices=("/d.json",), domain=("/a",), general=("/b",), evaluation=("/c",), questions="/q"
        ),
        output="choice",
    ),
    SearchJob(run="/r"), ExportJob(run="/r"), CompressJob(run="/r"), ReportJob(run="/r"),
    ValidateJob(path="/r", recalibrate="name"), ExplainJob(path="/r", run="/s"),
    TechniqueJob(model="/m", technique="lorp", kept_fraction=0.5, domain=("/a",), general=("/b",), output="o"),
    LaserJob(model="/m", questions="/q", domain=("/a",), output="o"),
    GenerateJob(bundle="/b", prompt="../../ is a text"),
    PlanJob(models=("/m",), device="/d.json"), FitJob(models=("/m",), device="/d.json"), DemoJob(device="/d.json"),
    ProfileJob(save="name"),
]  # fmt: skip

NO_PATHS = {"kind", "prompt", "execution_provider", "objective", "search", "seed", "stop", "mode", "rounding", "origin"}


def as_json(request: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(request))


def path_fields(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a request with a text that means a file."""
    if isinstance(value, dict):
        return [
            place for key, inner in value.items() if key not in NO_PATHS for place in path_fields(inner, (*at, key))
        ]
    if isinstance(value, list):
        return [place for index, inner in enumerate(value) for place in path_fields(inner, (*at, index))]
    return [at] if isinstance(value, str) else []


def changed_json(request: Any, place: tuple[Any, ...], text: Any) -> Any:
    raw = as_json(request)
    inner = raw
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = text
    return raw


def with_text(request: Any, place: tuple[Any, ...], text: str) -> Any:
    return msgspec.convert(changed_json(request, place, text), JobRequest)


CASES = [(request, place) for request in FILLED for place in path_fields(as_json(request))]
"""(request, place of one text that means a file)."""
