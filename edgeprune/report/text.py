"""Words for the report's quantities: names, numbers with units, predicted beside measured."""

from edgeprune.schema.measurement import Check
from edgeprune.schema.report import Quantity, ReportRow, RunReport
from edgeprune.units import format_bytes, format_fraction, format_joules, format_seconds

__all__ = [
    "HEADINGS",
    "LABELS",
    "budget_lines",
    "check_name",
    "check_value",
    "format_value",
    "heading",
    "quantity_names",
    "quantity_of",
    "short_error",
]

HEADINGS = {
    "disk_bytes": "on disk",
    "bundle_bytes": "float32 ONNX",
    "weights_bytes": "weights",
    "peak_rss_bytes": "peak memory",
    "model_memory_bytes": "model memory",
    "load_time_s": "load",
    "prefill_s": "prefill",
    "time_to_first_token_s": "first token",
    "decode_s": "per token",
    "decode_p95_s": "per token p95",
    "decode_j": "energy per token",
    "parameter_count": "parameters",
}
_SHORT_UNITS = ("bytes", "s", "x dense", "fraction")
LABELS = {"dense": "dense", "int8": "plain int8", "int4": "plain int4", "recipe": "recipe"}


def heading(name: str) -> str:
    """Column heading of a quantity."""
    kind, _, part = name.partition(".")
    if kind == "bits_per_byte":
        return f"bits per byte, {part}"
    if kind == "accuracy":
        return f"accuracy, {part}"
    return HEADINGS.get(name, name)


def format_value(value: float | None, unit: str) -> str:
    """A number with its unit; `n/a` for None."""
    if value is None:
        return "n/a"
    if unit == "bytes":
        return format_bytes(value)
    if unit == "s":
        return format_seconds(value)
    if unit == "J":
        return format_joules(value)
    if unit == "fraction":
        return format_fraction(value)
    if unit == "bits":
        return f"{value:.4f}"
    if unit == "parameters":
        return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value:,.0f}"
    return f"{value:g} {unit}".strip()


def check_name(check: Check) -> str:
    """What a check is about; a unit that is a whole phrase says which of several it is."""
    return check.quantity if check.unit in _SHORT_UNITS else f"{check.quantity} ({check.unit})"


def check_value(check: Check, value: float | None) -> str:
    """A check's limit or measurement."""
    if value is None:
        return "n/a"
    if check.unit == "x dense":
        return f"{value:.4f} x dense"
    return format_value(value, check.unit) if check.unit in _SHORT_UNITS else f"{value:.3g}"


def short_error(quantity: Quantity) -> str:
    """Such as `predicted 9.41 MB (+0.3 %)`; empty without a prediction beside a measurement."""
    if quantity.predicted is None or quantity.basis != "measured":
        return ""
    shown = f"predicted {format_value(quantity.predicted, quantity.unit)}"
    return shown if quantity.relative_error is None else f"{shown} ({quantity.relative_error:+.1%})"


def quantity_names(report: RunReport) -> list[str]:
    """All quantities of the table, in the order rows bring them."""
    names: dict[str, None] = {}
    for row in report.rows:
        names |= dict.fromkeys(quantity.name for quantity in row.quantities)
    order = [*HEADINGS]
    return sorted(
        names, key=lambda name: (order.index(name) if name in order else len(order) - 1.5, [*names].index(name))
    )


def quantity_of(row: ReportRow, name: str) -> Quantity | None:
    """The row's quantity of that name."""
    return next((quantity for quantity in row.quantities if quantity.name == name), None)


def budget_lines(report: RunReport) -> list[str]:
    """The limits in words."""
    budget = report.budget
    lines = []
    if budget.memory_bytes is not None:
        kept_free = f", after a reserve of {format_bytes(budget.reserve_bytes)}" if budget.reserve_bytes else ""
        lines.append(f"peak memory at most {format_bytes(budget.memory_bytes)}{kept_free}")
    if budget.device_memory_bytes is not None:
        lines.append(f"memory of the accelerator at most {format_bytes(budget.device_memory_bytes)}")
    if budget.latency_s is not None:
        lines.append(f"at most {format_seconds(budget.latency_s)} a token")
    if budget.first_token_s is not None:
        lines.append(f"at most {format_seconds(budget.first_token_s)} to the first token")
    if budget.disk_bytes is not None:
        lines.append(f"at most {format_bytes(budget.disk_bytes)} on disk")
    if budget.max_loss is not None:
        lines.append(f"bits per byte at most {format_fraction(budget.max_loss)} above the dense model's")
    if budget.max_general_loss is not None:
        lines.append(f"on general text at most {format_fraction(budget.max_general_loss)} above the dense model's")
    if budget.min_accuracy is not None:
        lines.append(f"at least {format_fraction(budget.min_accuracy)} of the questions answered right")
    if budget.objective != "loss":
        least = "time for a request" if budget.objective == "request" else budget.objective
        lines.append(f"within these limits the least {least}")
    if budget.origin == "default":
        lines.append("(the default: 60 % of plain int8's bytes on disk, and its peak memory)")
    return lines or ["none"]
