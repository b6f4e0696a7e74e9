"""`edgeprune validate BUNDLE|RUN`: measure on this device and judge."""

from pathlib import Path

import click

from edgeprune.cli.diagnostics import TerminalProgress, note
from edgeprune.cli.job_text import detach_option, hand_over
from edgeprune.cli.options import emulate_option, json_option, runtime_options
from edgeprune.cli.output import table, write_record_json, write_text
from edgeprune.jobs.exit_code import exit_code_of
from edgeprune.schema.correction import Recalibration
from edgeprune.schema.emulation import parse_emulation
from edgeprune.schema.jobs import ValidateJob
from edgeprune.schema.measurement import ValidationReport
from edgeprune.units import format_bytes, format_seconds

__all__ = ["command"]


@click.command("validate")
@click.argument("path", metavar="BUNDLE|RUN", type=click.Path(path_type=Path))
@runtime_options
@emulate_option
@click.option("--recalibrate", metavar="NAME", help="Correct the device profile of this name by what is measured.")
@detach_option
@json_option
def command(
    path: Path,
    threads: int | None,
    ep: str,
    emulate: str | None,
    recalibrate: str | None,
    detaches: bool,
    as_json: bool,
) -> int:
    """Measure memory, latency, loss and accuracy in fresh processes; needs only onnxruntime."""
    from edgeprune import api

    emulation = None if emulate is None else parse_emulation(emulate)
    if detaches:
        request = ValidateJob(
            path=str(path),
            execution_provider=ep,
            thread_count=threads,
            recalibrate=recalibrate,
            emulation=emulation,
        )
        return hand_over(request, as_json=as_json)
    progress = TerminalProgress()
    try:
        report = api.validate(
            path,
            execution_provider=ep,
            thread_count=threads,
            recalibrate=recalibrate,
            emulation=emulation,
            progress=progress,
        )
    finally:
        progress.close()
    if as_json:
        write_record_json(report)
    else:
        write_text(_text(report))
    if report.recalibration is not None:
        note(f"saved as {report.recalibration.profile_name}; use it with --device {report.recalibration.profile_name}")
    return int(exit_code_of(report))


def _text(report: ValidationReport) -> str:
    rows = []
    for item in report.measurements:
        domain = next((text.bits_per_byte for text in item.texts if text.name == "domain"), None)
        accuracy = item.accuracy[0].accuracy if item.accuracy else None
        rows.append(
            [
                item.label,
                format_bytes(item.disk_bytes),
                format_bytes(item.peak_rss_bytes),
                format_bytes(item.model_memory_bytes),
                format_seconds(item.decode_s),
                "n/a" if domain is None else f"{domain:.4f}",
                "n/a" if accuracy is None else f"{accuracy:.3f}",
            ]
        )
    lines = [
        table(["all measured", "disk", "peak memory", "of that model", "per token", "bits/byte", "accuracy"], rows)
    ]
    for check in report.checks:
        measured = "not measured" if check.measured is None else f"{check.measured:.6g} {check.unit}"
        lines.append(f"{check.quantity}: {measured}, limit {check.limit:.6g} {check.unit}: {check.verdict}")
    if report.emulation is not None:
        lines.insert(0, f"{report.device_name}, {report.emulation.text}")
    if report.recalibration is not None:
        lines.append(_recalibration(report.recalibration))
    lines.append(f"verdict: {report.verdict}")
    if report.better_plain is not None:
        lines.append(report.better_plain)
    return "\n".join(lines)


def _recalibration(made: Recalibration) -> str:
    rows = []
    for row in made.rows:
        show = format_bytes if row.unit == "bytes" else format_seconds
        rows.append(
            [
                f"{row.label} {row.quantity}",
                show(row.before),
                show(row.measured),
                f"{row.error_before:+.1%}",
                show(row.after),
                f"{row.error_after:+.1%}",
            ]
        )
    head = [f"profile {made.profile_name}", "predicted", "measured", "error", "recalibrated", "error"]
    factors = ", ".join(
        f"{factor.quantity} {factor.family} x{factor.value:.2f}" for factor in made.factors if factor.count
    )
    return "\n".join([table(head, rows), f"corrections: {factors or 'none'}", *made.notes])
