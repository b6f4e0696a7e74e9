"""Completes a `RunRequest`: the demo's own texts, absolute paths, the output folder, the context length."""

from pathlib import Path

from msgspec.structs import replace

from edgeprune.artifacts import RunFolder, read_record
from edgeprune.errors import UsageError
from edgeprune.pipeline.recipe_file import read_recipe_file
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recovery import RecoveryRequest
from edgeprune.schema.run import RunManifest, RunRequest
from edgeprune.search.budget import require_loss_limit
from edgeprune.shapes import edit_shapes

__all__ = [
    "DEMO_NAME",
    "SMALLEST_CONTEXT",
    "check_budget",
    "check_output",
    "check_recovery",
    "check_uniform_kv",
    "complete_request",
    "context_tokens",
    "named",
    "open_output",
    "open_run",
    "read_manifest",
]

DEMO_NAME = "demo"
DEMO_DOMAIN = "medicine"

SMALLEST_CONTEXT = 72
"""64 decoded tokens make the latency figure and a prompt must come before them."""


def complete_request(request: RunRequest) -> RunRequest:
    """Fill in the demo's texts and make every path absolute.

    Raises:
        UsageError: a model of the user's without domain text.
        CalibrationError: a file of questions that holds something else.
    """
    if request.model is None:
        from edgeprune.demo.paths import demo_choice_path, demo_model_path, demo_text_path  # data only where asked for

        request = replace(request, model=str(demo_model_path()))
        if not request.domain:
            request = replace(
                request,
                domain=tuple(str(demo_text_path(DEMO_DOMAIN, split)) for split in ("calibration", "selection")),
                evaluation=request.evaluation or (str(demo_text_path(DEMO_DOMAIN, "report")),),
                questions=request.questions or str(demo_choice_path(DEMO_DOMAIN)),
            )
    if not request.domain:
        raise UsageError(
            "No domain text was given; add --domain PATH with text of the field the model will serve "
            "(files or folders of txt, md, jsonl or parquet)."
        )
    _check_exist(request)
    check_budget(request)
    if request.recipe is not None and request.kv_bits == 8:
        raise UsageError("--recipe runs a recipe as written; write kv_bits = 8 in it and leave --kv-bits out.")
    if request.activation_bits == 16 and request.kv_bits == 8:
        raise UsageError(
            "A cache of 8 bits is not exact beside activations in float16; leave --kv-bits out, or add --activations "
            "float32."
        )
    check_recovery(request.recovery, recipe=request.recipe)
    model = request.model
    assert model is not None
    return replace(
        request,
        model=str(Path(model).absolute()) if Path(model).exists() else model,
        domain=_absolute(request.domain),
        general=_absolute(request.general),
        evaluation=_absolute(request.evaluation),
        also=_absolute(request.also),
        questions=None if request.questions is None else str(Path(request.questions).absolute()),
        recipe=None if request.recipe is None else str(Path(request.recipe).absolute()),
    )


def check_budget(request: RunRequest) -> None:
    """Refuse limits that nothing could ever meet, before any work is done.

    Raises:
        UsageError: an accuracy without questions, the memory of a GPU that is not used, an objective without a limit.
    """
    require_loss_limit(request.budget)
    if request.budget.device_memory is not None and request.execution_provider == "cpu":
        raise UsageError(
            "--device-memory limits the memory of a GPU, and this run computes on the processor; add --ep cuda, or "
            "limit --memory."
        )
    if request.budget.min_accuracy is not None and request.questions is None:
        raise UsageError(
            "--min-accuracy needs questions to answer; give a task file with --questions (JSON lines: prompt, choices, "
            "answer)."
        )


def check_uniform_kv(request: RunRequest, spec: ModelSpec) -> None:
    """Refuse what `--uniform-kv` cannot be kept for.

    Args:
        request: with the recipe it is to run, if any.
        spec: the dense model.

    Raises:
        UsageError: the model itself is beyond what optimum loads, or the recipe asked for is.
    """
    if not request.uniform_kv:
        return
    from edgeprune.export.optimum import optimum_refusal  # nothing of torch comes with it

    num_heads = spec.attention_blocks[0].num_heads
    reason = optimum_refusal(spec, num_heads=num_heads)
    if reason is not None:
        raise UsageError(f"--uniform-kv: optimum loads no bundle of {spec.name}: {reason}; leave the flag out.")
    if request.recipe is None:
        return
    recipe = read_recipe_file(Path(request.recipe), spec)
    reason = optimum_refusal(edit_shapes(spec, recipe), num_heads=num_heads)
    if reason is not None:
        raise UsageError(f"--uniform-kv: optimum loads no bundle of {request.recipe}: {reason}; leave one of both out.")


def check_recovery(request: RecoveryRequest | None, *, recipe: str | None = None) -> None:
    """Refuse a request nothing can be planned for.

    Raises:
        UsageError: no time, or a recipe that runs as it is written.
    """
    if request is None:
        return
    if not 0.0 < request.minutes < float("inf"):
        raise UsageError(f"--recover-minutes {request.minutes:g} is no time to train; give more than 0.")
    if recipe is not None:
        raise UsageError(
            "--recover-minutes plans the training of what a search chooses, and --recipe runs a recipe as written; "
            'leave one of them out, or write recovery = { mode = "auto", steps = N, block_steps = N } in the recipe.'
        )


def named(spec: ModelSpec, request: RunRequest) -> ModelSpec:
    """The spec with the name people know the model by: the demo's folder is called after what it holds."""
    from edgeprune.demo.paths import demo_model_path  # a path; no model data is read

    is_demo = request.model is not None and Path(request.model) == demo_model_path().absolute()
    return replace(spec, name=DEMO_NAME) if is_demo else spec


def context_tokens(request: RunRequest, spec: ModelSpec) -> int:
    """The context length of the run: the user's, or the smaller of 512 and the model's positions.

    Raises:
        UsageError: longer than the model's positions, too short to measure, or without room for a prompt.
    """
    wanted = request.context_tokens
    if wanted is None:
        wanted = min(512, spec.max_positions)
    if wanted > spec.max_positions:
        raise UsageError(
            f"A context of {wanted} tokens is longer than the model's {spec.max_positions} positions; give a "
            "shorter --context."
        )
    if wanted < SMALLEST_CONTEXT:
        raise UsageError(
            f"A context of {wanted} tokens is too short to measure; give a --context of at least {SMALLEST_CONTEXT}."
        )
    if wanted <= request.decode_tokens:
        raise UsageError(
            f"A context of {wanted} tokens leaves no prompt before the {request.decode_tokens} generated ones; give a "
            "longer --context, or both with --workload."
        )
    return wanted


def open_output(output: Path | None, *, name: str, model_hash: str, runs: Path | None = None) -> RunFolder:
    """The run folder to work in, created when absent: `output`, or one named after the model in `runs`.

    Raises:
        UsageError: not empty and not a run of ours, or not writable.
    """
    root = output if output is not None else (runs or Path("edgeprune-runs")) / f"{name}-{model_hash[:8]}"
    folder = RunFolder(root)
    check_output(root)
    return folder


def check_output(root: Path) -> None:
    """Refuse a folder that holds something else or cannot be written; creates it.

    Raises:
        UsageError: it does.
    """
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file; give a folder with -o.")
    try:
        if root.is_dir() and any(root.iterdir()) and not (root / "manifest.json").is_file():
            raise UsageError(f"{root} is not empty and holds no run of EdgePrune; give another folder with -o.")
        root.mkdir(parents=True, exist_ok=True)
        probe = root / ".edgeprune-write-test"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UsageError(f"{root} cannot be written ({error.strerror}); give another folder with -o.") from error


def open_run(path: Path) -> RunFolder:
    """An existing run folder.

    Raises:
        UsageError: it is none.
    """
    folder = RunFolder(path)
    if not folder.manifest.is_file():
        raise UsageError(f"{path} is not a run folder (it has no manifest.json); give the folder that `run` made.")
    return folder


def read_manifest(folder: RunFolder) -> RunManifest:
    """The manifest of a run.

    Raises:
        UsageError: missing, damaged or of a newer version.
    """
    return read_record(folder.manifest, RunManifest, error=UsageError)


def _check_exist(request: RunRequest) -> None:
    """A mistyped path, or a file without questions, is known before the first stage, not after minutes of work."""
    groups = {"--domain": request.domain, "--general": request.general, "--eval": request.evaluation}
    groups["--also"] = request.also
    for flag, paths in groups.items():
        for path in paths:
            if not Path(path).exists():
                raise UsageError(f"{flag} {path} is missing; give a file or folder that exists.")
    if request.questions is not None and not Path(request.questions).is_file():
        raise UsageError(f"--questions {request.questions} is missing; give a file of JSON lines.")
    if request.questions is not None:
        from edgeprune.calibrate.questions import read_questions  # only where there are any

        read_questions(Path(request.questions))


def _absolute(paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(Path(path).absolute()) for path in paths)
