"""`edgeprune profile`: measure this device."""

import click

from edgeprune.cli.diagnostics import TerminalProgress, note
from edgeprune.cli.job_text import detach_option, hand_over
from edgeprune.cli.options import emulate_option, json_option
from edgeprune.cli.output import write_record_json, write_text
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.emulation import parse_emulation
from edgeprune.schema.jobs import ProfileJob
from edgeprune.units import format_bytes, format_rate, format_seconds

__all__ = ["command"]


@click.command("profile")
@click.option("--quick", is_flag=True, help="A few seconds, with fewer shapes.")
@click.option("--save", metavar="NAME", help="Keep the profile under this name for --device.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of onnxruntime (default: usable cores).")
@emulate_option
@detach_option
@json_option
def command(
    quick: bool, save: str | None, threads: int | None, emulate: str | None, detaches: bool, as_json: bool
) -> int:
    """Measure processor, memory, bandwidth, kernels, disk and the floor of this device."""
    from edgeprune import api

    emulation = None if emulate is None else parse_emulation(emulate)
    if detaches:
        request = ProfileJob(quick=quick, save=save, thread_count=threads, emulation=emulation)
        return hand_over(request, as_json=as_json)
    progress = TerminalProgress()
    try:
        profile = api.profile(quick=quick, save=save, thread_count=threads, emulation=emulation, progress=progress)
    finally:
        progress.close()
    if as_json:
        write_record_json(profile)
    else:
        write_text(_text(profile))
    if save is not None:
        note(f"saved as {save}; use it with --device {save}")
    return 0


def _text(profile: DeviceProfile) -> str:
    cpu, memory = profile.cpu, profile.memory
    lines = [
        f"device      {profile.name} ({profile.basis})",
        f"processor   {cpu.model or 'unknown'}, {cpu.usable_core_count} of {cpu.logical_core_count} cores usable, "
        f"{' '.join(cpu.instruction_sets) or 'no known instruction sets'}",
        f"memory      {format_bytes(memory.usable_bytes)} usable of {format_bytes(memory.total_bytes)}"
        + (f", limited by {memory.limited_by}" if memory.limited_by else ""),
    ]
    lines.extend(
        f"bandwidth   {point.array_bytes // 2**20} MiB, {point.thread_count} threads: read "
        f"{format_rate(point.read_best_bytes_per_s)}, triad {format_rate(point.triad_best_bytes_per_s)}"
        for point in profile.bandwidth
    )
    lines.extend(f"accelerator {item.name}, {format_bytes(item.total_bytes)}" for item in profile.accelerators)
    runtime = profile.runtime
    lines.append(f"onnxruntime {runtime.onnxruntime_version or 'missing'}, {', '.join(runtime.execution_providers)}")
    if profile.floor is not None:
        lines.append(f"floor       {format_bytes(profile.floor.peak_rss_bytes)}")
    if profile.overhead is not None:
        lines.append(f"node        {format_seconds(profile.overhead.node_s)} each")
    lines.append(f"kernels     {len(profile.kernel_times)} times measured")
    if profile.emulation is not None:
        lines.insert(1, f"as          {profile.emulation.text}")
    lines.extend(f"note        {text}" for text in profile.notes)
    return "\n".join(lines)
