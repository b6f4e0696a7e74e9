"""The report as Markdown."""

from edgeprune.loaders import loaders_markdown
from edgeprune.report.forgotten_text import CONTRAST_HEAD, CONTRAST_TEXT, contrast_values, number_text, tokens_text
from edgeprune.report.text import (
    budget_lines,
    check_name,
    check_value,
    format_value,
    heading,
    quantity_names,
    quantity_of,
    short_error,
)
from edgeprune.schema.report import Quantity, RunReport
from edgeprune.units import format_fraction

__all__ = ["render_markdown"]


def render_markdown(report: RunReport) -> str:
    """One document; measured numbers stand plain, estimated ones carry a tilde."""
    parts = [
        f"# {_plain(report.model_name)} on {_plain(report.device_name)}: {report.verdict.replace('_', ' ')}",
        f"Budget: {'; '.join(budget_lines(report))}. Context {report.context_tokens} tokens. {report.created_at}.",
        "## Limits and measurements",
        _checks(report),
        "## Models compared",
        _models(report),
        "Plain numbers were measured on the device; `~` marks estimates, `*` the model's own files.",
        "## Predicted beside measured",
        _predictions(report),
        _recalibration(report),
        "## What was removed",
        f"Vocabulary: {report.vocabulary}.",
        _blocks(report),
        _forgotten(report),
        "## Front",
        _front(report),
        "## Notes",
        _list(report.notes),
        "## What this does not show",
        _list(report.limits),
        "## Load it elsewhere",
        "\n".join(loaders_markdown()).rstrip(),
        "## Made from",
        _origin(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _plain(text: str) -> str:
    """Text in which nothing is markup and nothing ends a table cell."""
    for mark in "\\`*_<>[]|#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(sentences: tuple[str, ...]) -> str:
    return "\n".join(f"- {_plain(sentence)}" for sentence in sentences) or "None."


def _checks(report: RunReport) -> str:
    rows = [
        [
            check_name(check),
            check_value(check, check.limit),
            check_value(check, check.measured),
            check.verdict.replace("_", " "),
        ]
        for check in report.checks
    ]
    return _table(["quantity", "limit", "measured", "verdict"], rows) if rows else "No limits were set."


def _models(report: RunReport) -> str:
    names = quantity_names(report)
    rows = [[heading(name), *(_cell(quantity_of(row, name)) for row in report.rows)] for name in names]
    return _table(["", *(row.label for row in report.rows)], rows)


def _cell(quantity: Quantity | None) -> str:
    if quantity is None or quantity.value is None:
        return "n/a"
    mark = {"measured": "", "config": "*"}.get(quantity.basis, "~")
    shown = format_value(quantity.value, quantity.unit)
    if quantity.low is not None and quantity.high is not None:
        shown += f" ({format_fraction(quantity.low)} to {format_fraction(quantity.high)})"
    return f"{mark}{shown}" if mark == "~" else f"{shown}{mark and chr(92) + mark}"


def _predictions(report: RunReport) -> str:
    rows = [
        [row.label, heading(quantity.name), format_value(quantity.value, quantity.unit), short_error(quantity)]
        for row in report.rows
        for quantity in row.quantities
        if short_error(quantity)
    ]
    return _table(["model", "quantity", "measured", "predicted"], rows) if rows else "Nothing has both."


def _recalibration(report: RunReport) -> str:
    """What the measurements taught the device's profile; nothing where that was not asked for."""
    made = report.validation.recalibration
    if made is None:
        return ""
    rows = [
        [
            row.label,
            row.quantity,
            format_value(row.before, row.unit),
            format_value(row.measured, row.unit),
            f"{row.error_before:+.1%}",
            format_value(row.after, row.unit),
            f"{row.error_after:+.1%}",
        ]
        for row in made.rows
    ]
    head = ["model", "quantity", "predicted", "measured", "error", "recalibrated", "error after"]
    return f"## Recalibration of {_plain(made.profile_name)}\n\n{_table(head, rows)}\n\n" + " ".join(
        (
            "The last column is of the measurements the corrections were fitted to.",
            *(_plain(text) for text in made.notes),
        )
    )


def _blocks(report: RunReport) -> str:
    rows = []
    for block in report.blocks:
        forms = ", ".join(f"{role} {form}" for role, form in block.sites.items())
        rows.append(
            [
                str(block.index),
                "dropped" if block.is_dropped else format_fraction(block.kept_fraction),
                format_fraction(block.bytes_kept_fraction),
                block.channels,
                block.groups,
                forms,
            ]
        )
    return _table(["block", "parameters kept", "bytes kept", "channels", "key-value groups", "sites"], rows)


def _forgotten(report: RunReport) -> str:
    """What was given up outside the domain; nothing where the report was made without it."""
    lost = report.forgotten
    if lost is None:
        return ""
    texts = [
        [
            _plain(text.name),
            format_value(text.dense_bits_per_byte, "bits"),
            format_value(text.bits_per_byte, "bits"),
            "n/a" if text.relative is None else f"{text.relative:+.1%}",
            "n/a" if text.token_inflation is None else f"{text.token_inflation:.3f}",
        ]
        for text in lost.texts
    ]
    head = ["text", "dense bits per byte", "recipe bits per byte", "change", "tokens / dense"]
    parts = ["## What was forgotten", _table(head, texts) if texts else "No text was measured.", tokens_text(lost)]
    if lost.channels:
        rows = [[str(row.block), *(number_text(value) for value in contrast_values(row))] for row in lost.channels]
        parts += [CONTRAST_TEXT, _table(["block", *CONTRAST_HEAD], rows)]
    return "\n\n".join(parts)


def _front(report: RunReport) -> str:
    rows = [
        [
            entry.label,
            format_value(float(entry.cost.disk_bytes), "bytes"),
            f"{entry.relative_loss:+.1%}",
            format_value(entry.cost.decode_s.value, "s"),
        ]
        for entry in report.search.front
    ]
    return _table(["candidate", "on disk (predicted)", "loss (predicted)", "per token (predicted)"], rows)


def _origin(report: RunReport) -> str:
    calibration = report.calibration
    lines = [
        f"- model hash {report.model_hash}, licence {_plain(report.license or 'not stated')}",
        f"- calibration: {calibration.domain_token_count:,} domain tokens of {calibration.document_count:,} documents, "
        f"{calibration.general_token_count:,} general tokens ({_plain(calibration.general_source)}), data hash "
        f"{calibration.data_hash[:12]}",
        "- " + ", ".join(f"{_plain(name)} {_plain(version)}" for name, version in sorted(report.versions.items())),
    ]
    return "\n".join(lines)
