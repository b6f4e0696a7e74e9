"""Flags that several verbs share, and what they are parsed into."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
from msgspec import convert

from edgeprune.errors import UsageError
from edgeprune.schema.budget import BudgetRequest, Limit, Objective
from edgeprune.schema.generation import Sampling
from edgeprune.schema.lock import Lock, parse_locks
from edgeprune.units import parse_bytes, parse_fraction, parse_percent, parse_seconds

__all__ = [
    "budget_options",
    "bundle_argument",
    "context_option",
    "emulate_option",
    "executor_options",
    "form_options",
    "host_memory_option",
    "json_option",
    "kv_bits_option",
    "lock_option",
    "output_option",
    "run_argument",
    "runtime_options",
    "sampling_options",
    "text_options",
    "threads_option",
    "workload_options",
]

F = TypeVar("F", bound=Callable[..., Any])


def _stacked(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")

output_option = click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder to write (default edgeprune-runs/<model>-<hash8>)."
)


def _read_locks(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[Lock, ...] | None:
    """The locks given; None without the flag, and none for `--lock none`."""
    if not texts:
        return None
    return () if texts == ("none",) else parse_locks(texts)


lock_option = click.option(
    "--lock",
    "locks",
    multiple=True,
    metavar="PATTERN=ACTION",
    callback=_read_locks,
    help="Fix a choice; repeatable. PATTERN: blocks.0-3.*, *.down, block.3, table, vocabulary, depth. ACTION: dense, "
    "int8, int4 or a kernel, rank=N (<=, >=), factors, pivot, keep, drop, channels=N, groups=N, tokens=N, none.",
)

context_option = click.option(
    "--context", type=click.IntRange(min=1), help="Tokens (default: the smaller of 512 and the model's positions)."
)

_WORKLOAD = re.compile(r"([0-9]{1,9})\+([0-9]{1,9})")


def workload_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of how long prompts and answers are; the verb gets them as `context` and `decode_tokens`, or None.

    Raises:
        UsageError: (when the verb is called) no two numbers of tokens, or both flags.
    """

    @functools.wraps(function)
    def with_workload(*args: Any, context: int | None, workload: str | None, **values: Any) -> Any:
        decode_tokens = None
        if workload is not None:
            context, decode_tokens = _workload(workload, context)
        return function(*args, context=context, decode_tokens=decode_tokens, **values)

    return _stacked(
        context_option,
        click.option(
            "--workload",
            metavar="PROMPT+TOKENS",
            help="What a request is, such as 512+128: tokens of its prompt, and tokens generated (default 64).",
        ),
    )(with_workload)


def _workload(text: str, context: int | None) -> tuple[int, int]:
    found = _WORKLOAD.fullmatch(text)
    if found is None or not all(int(part) for part in found.groups()):
        raise UsageError(f"--workload {text!r} is no prompt and generated tokens; write both, such as 512+128.")
    if context is not None:
        raise UsageError("--workload says how long the context is; leave --context out.")
    prompt, generated = map(int, found.groups())
    return prompt + generated, generated


threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of onnxruntime (default: usable cores)."
)

runtime_options = _stacked(
    threads_option,
    click.option("--ep", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Provider."),
)

executor_options = _stacked(
    click.option(
        "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes to measure and build in."
    ),
    click.option("--cluster", metavar="ADDRESS", help="Dask scheduler whose workers do that, such as tcp://host:8786."),
)

kv_bits_option = click.option(
    "--kv-bits",
    type=click.Choice(["8", "32"]),
    help="Bits of a cached key or value (default 32); 8 has a scale per channel, measured on the calibration text.",
)

activations_option = click.option(
    "--activations",
    type=click.Choice(["float32", "float16"]),
    help="What bundles compute in (default: float16 with --ep cuda, else float32); float16 halves the cache too.",
)

last_logits_option = click.option(
    "--last-logits",
    is_flag=True,
    help="Give the logits after a prompt's last token alone: prompts are quicker, scoring a text is slower.",
)

form_options = _stacked(
    kv_bits_option,
    click.option(
        "--rounding",
        type=click.Choice(["gptq", "nearest"]),
        default="gptq",
        show_default=True,
        help="How weights become integers: gptq weighs errors by the calibration text.",
    ),
    click.option("--uniform-kv", is_flag=True, help="Keep to what optimum's ORTModelForCausalLM loads."),
)

emulate_option = click.option(
    "--emulate", metavar="LIMITS", help="Measure as a smaller device, such as cores=1 or cores=1,memory=512MB."
)

_path = click.Path(path_type=Path)


def _read_bytes(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    return None if text is None else parse_bytes(text, what="--max-host-memory")


host_memory_option = click.option(
    "--max-host-memory",
    "max_host_memory_bytes",
    metavar="SIZE",
    callback=_read_bytes,
    help="Memory this machine may spend, such as 8GB; work that is predicted to need more is refused before it begins.",
)

_SAMPLING_NAMES = ("max_tokens", "temperature", "top_p", "seed", "stop")


def sampling_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of how text is written; the verb gets them as `sampling`.

    Raises:
        UsageError: (when the verb is called) a value out of range.
    """

    @functools.wraps(function)
    def with_sampling(*args: Any, **values: Any) -> Any:
        flags = {name: values.pop(name) for name in _SAMPLING_NAMES}
        return function(*args, sampling=Sampling(**flags), **values)

    return _stacked(
        click.option("--max-tokens", type=int, default=128, show_default=True, help="Longest answer."),
        click.option("--temperature", type=float, default=0.0, show_default=True, help="0 takes the likeliest token."),
        click.option("--top-p", type=float, default=1.0, show_default=True, help="Draw from the likeliest this much."),
        click.option("--seed", type=int, help="Repeat the draws."),
        click.option("--stop", multiple=True, help="Text before which the answer ends; repeatable."),
    )(with_sampling)


text_options = _stacked(
    click.option("--domain", multiple=True, type=_path, help="Text of the field: files or folders; repeatable."),
    click.option("--general", multiple=True, type=_path, help="General text (default: the model writes its own)."),
    click.option("--eval", "evaluation", multiple=True, type=_path, help="Text to report on instead of a split."),
    click.option(
        "--questions", type=_path, help="JSON lines: prompt, choices, answer; or prompt and answer as the exact text."
    ),
    click.option("--seed", type=int, default=0, show_default=True),
)

bundle_argument = click.argument("bundle", metavar="BUNDLE", type=_path)

run_argument = click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))


_BUDGET_FLAGS = (
    click.option("--memory", help="Peak memory of the process, such as 900MB, or 60% of what the dense model adds."),
    click.option("--device-memory", help="Memory of the GPU, such as 2GB, or 50% of what the dense model takes."),
    click.option("--latency", help="Time per token, such as 12ms, or 50% of the dense model's."),
    click.option("--first-token", help="Time to first token, such as 0.5s, or 50% of the dense model's."),
    click.option("--disk", help="Bytes of the bundle, such as 40MB, or 30% of the dense model's."),
    click.option("--max-loss", help="Allowed rise of bits-per-byte, such as 0.02 or 2%."),
    click.option("--max-general-loss", help="The same on general text."),
    click.option("--min-accuracy", help="Share of --questions answered right, such as 0.7 or 70%."),
    click.option("--reserve", help="Memory kept free for your own program, such as 200MB."),
    click.option(
        "--objective",
        type=click.Choice(get_args(Objective)),
        help="What to make least within the limits (default: loss; memory where only quality is limited).",
    ),
)
_BUDGET_NAMES = (
    "memory", "device_memory", "latency", "first_token", "disk", "max_loss", "max_general_loss", "min_accuracy",
    "reserve", "objective",
)  # fmt: skip


def budget_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of a budget; the verb gets them as `budget`, a `BudgetRequest`, or None when none was given.

    Raises:
        UsageError: (when the verb is called) a size or time without a unit, or not a number.
    """

    @functools.wraps(function)
    def with_budget(*args: Any, **values: Any) -> Any:
        flags = {name: values.pop(name) for name in _BUDGET_NAMES}
        return function(*args, budget=_budget_request(**flags), **values)

    return _stacked(*_BUDGET_FLAGS)(with_budget)


def _budget_request(**flags: str | None) -> BudgetRequest | None:
    if all(text is None for text in flags.values()):
        return None
    reserve, objective = flags["reserve"], flags["objective"]
    return BudgetRequest(
        memory=_limit(flags["memory"], "--memory", parse_bytes),
        device_memory=_limit(flags["device_memory"], "--device-memory", parse_bytes),
        latency=_limit(flags["latency"], "--latency", parse_seconds),
        first_token=_limit(flags["first_token"], "--first-token", parse_seconds),
        disk=_limit(flags["disk"], "--disk", parse_bytes),
        max_loss=_fraction(flags["max_loss"], "--max-loss"),
        max_general_loss=_fraction(flags["max_general_loss"], "--max-general-loss"),
        min_accuracy=_share(flags["min_accuracy"], "--min-accuracy"),
        reserve_bytes=0 if reserve is None else parse_bytes(reserve, what="--reserve"),
        objective=convert(objective or "loss", Objective),
    )


def _fraction(text: str | None, flag: str) -> float | None:
    return None if text is None else parse_fraction(text, what=flag)


def _share(text: str | None, flag: str) -> float | None:
    share = _fraction(text, flag)
    if share is not None and not 0.0 < share <= 1.0:
        raise UsageError(f"{flag} {text!r} is no share of the questions; give more than 0 and at most 1, or 100%.")
    return share


def _limit(text: str | None, flag: str, parse: Callable[..., float]) -> Limit | None:
    if text is None:
        return None
    percent = parse_percent(text)
    if percent is not None:
        return Limit(percent_of_dense=percent)
    value = float(parse(text, what=flag))
    if value <= 0:
        raise UsageError(f"{flag} {text!r} leaves nothing; give more than zero.")
    return Limit(absolute=value)
