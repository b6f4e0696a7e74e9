"""A `Draft` as requests: what the user wrote, read the way the command line reads its flags."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeprune.demo.paths import DEMO_QUESTION_DOMAINS, demo_choice_path, demo_model_path, demo_text_path
from edgeprune.errors import UsageError
from edgeprune.schema.budget import Budget, BudgetRequest, Limit
from edgeprune.schema.jobs import RunJob
from edgeprune.schema.run import RunRequest
from edgeprune.tui.view_state import Draft
from edgeprune.units import parse_bytes, parse_fraction, parse_percent, parse_seconds

__all__ = [
    "QUANTITIES",
    "Quantity",
    "budget_request",
    "context_of",
    "draft_of",
    "draft_sentence",
    "limit_texts",
    "run_job",
]


@dataclass(frozen=True)
class Quantity:
    """One limit that can be set."""

    name: str
    title: str
    short: str
    """Behind an amount, such as `20ms a token`."""
    example: str
    kind: str
    """`bytes`, `seconds` or `fraction`."""
    stops: tuple[str, ...]
    """What its slider steps through; the first lifts the limit."""


_SHARES = ("", "100%", "90%", "80%", "70%", "60%", "50%", "45%", "40%", "35%", "30%", "25%", "20%", "15%", "10%", "5%")
_LOSSES = ("", "50%", "30%", "20%", "15%", "10%", "7%", "5%", "4%", "3%", "2%", "1%", "0.5%")

QUANTITIES = (
    Quantity("memory", "memory", "memory", "900MB or 60%", "bytes", _SHARES),
    Quantity("latency", "time per token", "a token", "12ms or 50%", "seconds", _SHARES),
    Quantity("disk", "disk", "disk", "40MB or 30%", "bytes", _SHARES),
    Quantity("max_loss", "loss at most", "loss", "2%", "fraction", _LOSSES),
)
"""The limits of the Budget screen; percentages are shares of the dense model, a loss is a rise of bits-per-byte."""


def budget_request(draft: Draft) -> BudgetRequest:
    """The limits as written.

    Raises:
        UsageError: a limit that cannot be read; the sentence names it.
    """
    loss = draft.limit("max_loss")
    return BudgetRequest(
        memory=_limit(draft.limit("memory"), "memory", parse_bytes),
        latency=_limit(draft.limit("latency"), "time per token", parse_seconds),
        disk=_limit(draft.limit("disk"), "disk", parse_bytes),
        max_loss=parse_fraction(loss, what="loss") if loss else None,
    )


def context_of(draft: Draft) -> int | None:
    """The context in tokens; None takes the default.

    Raises:
        UsageError: it is not a whole number above zero.
    """
    return None if not draft.context else _whole(draft.context, "context", least=1)


def run_job(draft: Draft) -> RunJob:
    """The whole job for a draft.

    Raises:
        UsageError: something that cannot be read, or a model without texts of its domain.
    """
    domain, evaluation, questions = _texts(draft)
    return RunJob(
        request=RunRequest(
            model=draft.model,
            device=draft.device,
            budget=budget_request(draft),
            context_tokens=context_of(draft),
            domain=domain,
            evaluation=evaluation,
            questions=questions,
            locks=draft.locks,
            evaluations=_whole(draft.evaluations or "12", "recipes to build", least=0),
            kv_bits=draft.kv_bits,
            rounding=draft.rounding,
            uniform_kv=draft.uniform_kv,
            last_logits=draft.last_logits,
        )
    )


def draft_of(request: RunRequest) -> Draft:
    """The draft that a run's request would have come from."""
    budget = request.budget
    texts = {
        "memory": _written(budget.memory, _bytes_text),
        "latency": _written(budget.latency, _seconds_text),
        "disk": _written(budget.disk, _bytes_text),
        "max_loss": "" if budget.max_loss is None else f"{100 * budget.max_loss:g}%",
    }
    is_demo = request.model is None or Path(request.model).parts[-4:] == demo_model_path().parts[-4:]
    return Draft(
        model=None if is_demo else request.model,
        is_model_chosen=True,
        domain=_domain_text(request.domain),
        device=request.device,
        limits=tuple((name, text) for name, text in texts.items() if text),
        context="" if request.context_tokens is None else str(request.context_tokens),
        locks=request.locks,
        evaluations=str(request.evaluations),
        kv_bits=request.kv_bits,
        rounding=request.rounding,
        uniform_kv=request.uniform_kv,
        last_logits=request.last_logits,
    )


def limit_texts(budget: Budget) -> dict[str, str]:
    """The limits of a resolved budget as they would be typed; without those it does not set."""
    texts = {
        "memory": "" if budget.memory_bytes is None else _bytes_text(budget.memory_bytes + budget.reserve_bytes),
        "latency": "" if budget.latency_s is None else _seconds_text(budget.latency_s),
        "disk": "" if budget.disk_bytes is None else _bytes_text(budget.disk_bytes),
        "max_loss": "" if budget.max_loss is None else f"{100 * budget.max_loss:g}%",
    }
    return {name: text for name, text in texts.items() if text}


def draft_sentence(draft: Draft) -> str:
    """What would be made, in a line; empty limits are left out."""
    model = "demo model" if draft.model is None else draft.model.rstrip("/").rsplit("/", 1)[-1]
    limits = [f"{text} {quantity.short}" for quantity in QUANTITIES if (text := draft.limit(quantity.name))]
    parts = [model if draft.is_model_chosen else "no model chosen", draft.domain, draft.device or "this device"]
    return " · ".join([*parts, *(limits or ["no limits"])])


def _texts(draft: Draft) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """Domain texts, evaluation texts and questions."""
    domain = draft.domain.strip()
    if draft.model is None and domain in DEMO_QUESTION_DOMAINS:
        texts = tuple(str(demo_text_path(domain, split)) for split in ("calibration", "selection"))
        return texts, (str(demo_text_path(domain, "report")),), str(demo_choice_path(domain))
    if not domain or not Path(domain).expanduser().exists():
        kinds = " or ".join(DEMO_QUESTION_DOMAINS)
        hint = f"{kinds}, or a path" if draft.model is None else "the path of a file or folder of texts"
        raise UsageError(f"There is no text of the domain {domain!r}; on screen 2 give {hint}.")
    return (str(Path(domain).expanduser().resolve()),), (), None


def _limit(text: str, what: str, parse: Callable[..., float]) -> Limit | None:
    if not text:
        return None
    percent = parse_percent(text)
    if percent is not None:
        return Limit(percent_of_dense=percent)
    value = float(parse(text, what=what))
    if value <= 0:
        raise UsageError(f"{what} {text!r} leaves nothing; give more than zero.")
    return Limit(absolute=value)


def _written(limit: Limit | None, write: Callable[[float], str]) -> str:
    if limit is None:
        return ""
    if limit.percent_of_dense is not None:
        return f"{100 * limit.percent_of_dense:g}%"
    return "" if limit.absolute is None else write(limit.absolute)


def _bytes_text(count: float) -> str:
    return f"{count / 1e9:.9g}GB" if count >= 1e9 else f"{count / 1e6:.9g}MB"


def _seconds_text(seconds: float) -> str:
    return f"{seconds:.9g}s" if seconds >= 1 else f"{1e3 * seconds:.9g}ms"


def _domain_text(paths: tuple[str, ...]) -> str:
    """The demo's domain whose texts these are, otherwise the first path."""
    for domain in DEMO_QUESTION_DOMAINS:
        if any(Path(path).name.startswith(f"{domain}.") for path in paths):
            return domain
    return paths[0] if paths else ""


def _whole(text: str, what: str, *, least: int) -> int:
    if not text.isdigit() or int(text) < least:
        raise UsageError(f"{what} {text!r} is not a whole number of at least {least}; write it like 256.")
    return int(text)
