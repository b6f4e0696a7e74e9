"""Opens run folders: a new one for a request, an existing one as it was left, and what a verb needs to find there."""

from pathlib import Path

from msgspec.structs import replace

from edgeprune.errors import UsageError
from edgeprune.pipeline.journal import Journal
from edgeprune.pipeline.recipe_file import adopt_recipe
from edgeprune.pipeline.request import (
    check_output,
    check_uniform_kv,
    complete_request,
    context_tokens,
    named,
    open_output,
    open_run,
    read_manifest,
)
from edgeprune.pipeline.stages import stage_named
from edgeprune.pipeline.table import Run
from edgeprune.pipeline.versions import tool_versions
from edgeprune.schema.events import NullProgress, Progress
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.run import RunManifest, RunRequest
from edgeprune.search.locks import Holds

__all__ = ["need_stages", "open_new_run", "reopen_run", "run_of"]


def open_new_run(
    request: RunRequest, output: Path | None, progress: Progress, *, runs: Path | None = None
) -> tuple[Run, ModelSpec]:
    """The run folder of a request, with its manifest, ready for the stages; and the shapes of its model.

    Without an `output` the folder is named after the model, in `runs` or in `edgeprune-runs` here.

    Raises:
        UsageError: paths, locks, a context or a recipe that cannot be used.
        ModelError: the model cannot be read.
    """
    from edgeprune.intake.source import resolve_model
    from edgeprune.intake.spec import read_spec

    if output is not None:
        check_output(output)  # before the model is hashed: a wrong folder is known at once
    completed = complete_request(request)
    assert completed.model is not None
    spec = named(read_spec(resolve_model(completed.model)), completed)
    completed = adopt_recipe(completed, spec)
    check_uniform_kv(completed, spec)
    context_tokens(completed, spec)
    Holds(spec, completed.locks)  # a mistyped pattern is refused before anything is measured
    folder = open_output(output, name=spec.name, model_hash=spec.model_hash, runs=runs)
    if folder.manifest.is_file():
        manifest = replace(read_manifest(folder), request=completed, versions=tool_versions())
    else:
        manifest = RunManifest(request=completed, model_hash=spec.model_hash, versions=tool_versions())
    run = Run(folder=folder, request=completed, manifest=manifest, progress=Journal(folder.events, progress))
    return run, spec


def reopen_run(path: Path, progress: Progress | None) -> Run:
    """A run folder as it was left.

    Raises:
        UsageError: it is none.
    """
    folder = open_run(path)
    manifest = read_manifest(folder)
    return Run(
        folder=folder,
        request=replace(manifest.request, worker_count=1, cluster=None),  # where the run worked says nothing of now
        manifest=manifest,
        progress=Journal(folder.events, progress or NullProgress()),
    )


def need_stages(work: Run, *names: str) -> None:
    """Refuse a verb whose inputs no earlier stage has written.

    Raises:
        UsageError: it names the stage to run.
    """
    for name in names:
        stage = stage_named(name)
        for path in (*stage.outputs(work), *stage.drafts(work)):
            if not path.exists():
                raise UsageError(f"{work.folder.root} holds no {path.name} yet; run the stage `{name}` first.")


def run_of(path: Path) -> Path:
    """The run folder a path means: itself, or the one a recipe file stands in.

    Raises:
        UsageError: a file that stands in no run folder.
    """
    if not path.is_file():
        return path
    if not (path.parent / "manifest.json").is_file():
        raise UsageError(f"{path} stands in no run folder; say which run it is for with --run RUN.")
    return path.parent
