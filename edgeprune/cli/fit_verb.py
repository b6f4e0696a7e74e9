"""`edgeprune fit [MODEL...]`: which models fit the device, at which precision and how fast."""

from collections.abc import Callable

import click

from edgeprune.cli.diagnostics import TerminalProgress, note
from edgeprune.cli.options import context_option, json_option
from edgeprune.cli.output import table, write_record_json, write_text
from edgeprune.errors import UsageError
from edgeprune.jobs.exit_code import exit_code_of
from edgeprune.schema.budget import Budget
from edgeprune.schema.estimate import Estimate
from edgeprune.schema.fit import FitModel, FitReport, FitRow
from edgeprune.units import format_bytes, format_seconds, parse_bytes, parse_percent, parse_seconds

__all__ = ["command"]

_HEAD = ["model", "parameters", "precision", "weights", "peak memory", "tokens/s", "from", "prompt", "fits"]
_VERDICTS = {"met": "yes", "not_met": "no", "unmeasured": "unknown"}
_SOURCES = {"kernel_table": "kernel times", "roofline": "roofline", None: "n/a"}


@click.command("fit")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--device", help="Saved or shipped profile, or a path (default: a saved one of this machine, or a look).")
@click.option("--memory", help="Peak memory of the process, such as 1.5GB (default: the device's).")
@click.option("--latency", help="Time per token, such as 50ms.")
@click.option("--first-token", help="Time for the prompt, such as 3s.")
@click.option("--disk", help="Bytes of the bundle, such as 800MB.")
@click.option("--reserve", help="Memory kept free for your own program, such as 500MB.")
@click.option("--precision", multiple=True, help="fp32, fp16, int8 or int4; repeatable (default: all but fp32).")
@click.option("--all", "show_all", is_flag=True, help="Also show what does not fit.")
@context_option
@json_option
def command(
    models: tuple[str, ...],
    device: str | None,
    memory: str | None,
    latency: str | None,
    first_token: str | None,
    disk: str | None,
    reserve: str | None,
    precision: tuple[str, ...],
    show_all: bool,
    context: int | None,
    as_json: bool,
) -> int:
    """Say which models fit a device, at which precision, with tokens per second, range and basis.

    MODEL is a name of the shipped catalogue or a folder with a config.json; without one, the whole catalogue. Nothing
    is downloaded.
    """
    from edgeprune import api

    reserve_bytes = _absolute(reserve, "--reserve", parse_bytes)
    memory_bytes = _absolute(memory, "--memory", parse_bytes)
    disk_bytes = _absolute(disk, "--disk", parse_bytes)
    budget = Budget(
        memory_bytes=None if memory_bytes is None else int(memory_bytes),
        latency_s=_absolute(latency, "--latency", parse_seconds),
        first_token_s=_absolute(first_token, "--first-token", parse_seconds),
        disk_bytes=None if disk_bytes is None else int(disk_bytes),
        reserve_bytes=int(reserve_bytes or 0),
    )
    progress = TerminalProgress()
    try:
        report = api.fit(
            models, device=device, budget=budget, context=context, precisions=precision or None, progress=progress
        )
    finally:
        progress.close()
    if as_json:
        write_record_json(report)
    else:
        write_text(_text(report, show_all=show_all or bool(models)))
        for sentence in report.notes:
            note(sentence)
    return int(exit_code_of(report))


def _absolute(text: str | None, flag: str, parse: Callable[..., float]) -> float | None:
    """A size or time above zero; a percentage is of no one model's here.

    Raises:
        UsageError: a percentage, or not a size or time above zero.
    """
    if text is None:
        return None
    if parse_percent(text) is not None:
        raise UsageError(f"{flag} {text!r} is a share of one model, and fit compares many; give an absolute limit.")
    value = parse(text, what=flag)
    if value <= 0 and flag != "--reserve":
        raise UsageError(f"{flag} {text!r} leaves nothing; give more than zero.")
    return value


def _text(report: FitReport, *, show_all: bool) -> str:
    priced = [model for model in report.models if model.can_compress]
    weighed = [model for model in report.models if not model.can_compress]
    parts = [_headline(report)]
    rows = [line for model in priced for line in _lines(model, show_all=show_all)]
    if rows:
        parts.append(table(_HEAD, rows))
    if report.verdict == "not_met" or not any(model.fits == "met" for model in priced):
        parts.append(_least(priced))
    shown = [model for model in weighed if show_all or model.fits != "not_met"]
    if shown:
        parts.append(_weighed(shown))
    hidden = sum(row.fits == "not_met" for model in report.models for row in model.rows)
    if hidden and not show_all:
        parts.append(f"{hidden} rows that do not fit are left out; --all shows them.")
    return "\n\n".join(part for part in parts if part)


def _headline(report: FitReport) -> str:
    budget = report.budget
    limits = [f"at most {format_bytes(budget.memory_bytes)} of memory"] if budget.memory_bytes is not None else []
    limits += [f"{format_seconds(budget.latency_s)} per token"] if budget.latency_s is not None else []
    limits += [f"{format_seconds(budget.first_token_s)} for the prompt"] if budget.first_token_s is not None else []
    limits += [f"{format_bytes(budget.disk_bytes)} on disk"] if budget.disk_bytes is not None else []
    basis = {"datasheet": "data sheet", "measured": "measured"}.get(report.device_basis, report.device_basis)
    return f"{report.device_name} ({basis}), context {report.context_tokens}: {', '.join(limits) or 'no limits'}"


def _lines(model: FitModel, *, show_all: bool) -> list[list[str]]:
    rows = [row for row in model.rows if show_all or row.fits != "not_met"]
    return [
        [
            model.name if index == 0 else "",
            _count(model.parameter_count) if index == 0 else "",
            row.precision,
            format_bytes(row.weights_bytes),
            _ranged(row.peak_rss_bytes, format_bytes),
            _ranged(row.tokens_per_s, _rate),
            _SOURCES[row.speed_basis],
            format_seconds(row.prefill_s.value),
            _fits(row),
        ]
        for index, row in enumerate(rows)
    ]


def _fits(row: FitRow) -> str:
    text = _VERDICTS[row.fits] + (", close" if row.is_close else "")
    return text + (f" ({', '.join(row.binding)})" if row.binding else "")


def _least(models: list[FitModel]) -> str:
    """What the smallest of them would need."""
    peaks = [
        (row.peak_rss_bytes.value, model.name, row.precision)
        for model in models
        for row in model.rows
        if row.peak_rss_bytes.value is not None
    ]
    if not peaks:
        return ""
    value, name, precision = min(peaks)
    return f"Nothing is known to fit. The least memory of these is {format_bytes(value)}, by {name} at {precision}."


def _weighed(models: list[FitModel]) -> str:
    labels = sorted({row.precision: row.weights_bytes for row in models[0].rows}.items(), key=lambda item: -item[1])
    head = ["model", "parameters", *(label for label, _ in labels), "fits"]
    rows = []
    for model in models:
        sizes = {row.precision: row for row in model.rows}
        rows.append(
            [
                model.name,
                _count(model.parameter_count),
                *(format_bytes(sizes[label].weights_bytes) for label, _ in labels),
                "no" if model.fits == "not_met" else "unknown",
            ]
        )
    title = "EdgePrune cannot compress or export these yet (edgeprune doctor --families says why); weights alone:"
    return f"{title}\n{table(head, rows)}"


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} B" if parameters >= 999.5e6 else f"{parameters / 1e6:.0f} M"


def _rate(per_s: float | None) -> str:
    if per_s is None:
        return "n/a"
    return f"{per_s:.0f}" if per_s >= 10 else f"{per_s:.1f}"


def _ranged(estimate: Estimate, show: Callable[[float | None], str]) -> str:
    """The value and its range; a unit that all three share is written once."""
    text = show(estimate.value)
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return text
    low, high = show(estimate.low), show(estimate.high)
    unit = text.partition(" ")[2]
    if low.partition(" ")[2] == high.partition(" ")[2] == unit:
        low, high = low.partition(" ")[0], high.partition(" ")[0]
    return f"{text} ({low} to {high})"
