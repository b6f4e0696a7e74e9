"""How much memory, and how long, does a model larger than it take from its folder to an int4 bundle?

    python tests/bench/host_memory.py [--quick] [--rounding nearest|gptq] [--folder DIR] [--output FILE] [--no-group]

Writes a Llama of 7-billion shape with random weights (32 blocks, 4,096 wide, FFN 11,008, 32,000 tokens, 16-bit shards,
13.5 GB), then goes from that folder to a bundle in a process of its own: statistics on 2 x 256 tokens, 4 blocks
dropped, all sites of 4 blocks factored, everything in int4. Anonymous memory (RssAnon) is summed over that process and
its children 20 times a second; the peak of each stage and the largest VmHWM stand beside it. Where a memory cgroup can
be made below this process's own, the limit is also the kernel's; --no-group leaves groups alone. `--quick` has 8 blocks
of 1,024 and a limit scaled by the largest matrix. About 25 GB of disk are checked first, and freed at the end.

Prints a table, writes JSON to tests/bench/results/, exits 1 where a limit is broken: 5 GB and, without --quick, 60
minutes on two cores.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402

from edgeprune.pipeline.host_by_block import LIBRARY_ANONYMOUS_BYTES  # noqa: E402
from edgeprune.runtime.cgroup import group_folders  # noqa: E402
from edgeprune.runtime.memory import parse_status  # noqa: E402
from edgeprune.units import format_bytes  # noqa: E402
from tests.bench.host_memory_model import Shape, source_bytes, write_model  # noqa: E402

HERE = Path(__file__).resolve().parent
FULL = Shape(blocks=32, hidden=4096, inner=11_008, heads=32, vocabulary=32_000)
QUICK = Shape(blocks=8, hidden=1024, inner=2816, heads=8, vocabulary=8_192)
LIMIT_BYTES = 5_000_000_000
LIMIT_S = 3600.0
INTERVAL_S = 0.05
WINDOW_TOKENS = 256
WINDOWS = 2
KERNEL = "int4_b128_a4"
"""Blocks of 128: onnxruntime's own copy, which the comparison with torch holds, takes 3.2 GB; of 32 it takes 4.2."""


def limit_of(shape: Shape) -> int:
    """5 GB, of which what the libraries leave is scaled by the largest matrix."""
    share = (shape.hidden * shape.inner) / (FULL.hidden * FULL.inner)
    return round(LIBRARY_ANONYMOUS_BYTES + (LIMIT_BYTES - LIBRARY_ANONYMOUS_BYTES) * share)


def recipe_of(model: Path, rounding: str) -> Any:
    """Late blocks dropped, early ones factored to half of their parameters; an eighth of the blocks each."""
    from edgeprune.intake.spec import read_spec
    from edgeprune.schema.recipe import Recipe, SiteEdit
    from edgeprune.shapes import break_even_rank

    spec = read_spec(model)
    count = max(2, len(spec.blocks) // 8)
    dropped = tuple(range(len(spec.blocks) - count - 2, len(spec.blocks) - 2))
    factored = range(2, 2 + count)
    sites = tuple(
        SiteEdit(
            name=site.name,
            kernel=KERNEL,
            rank=break_even_rank(site.in_features, site.out_features) // 2 if block.index in factored else None,
        )
        for block in spec.blocks
        for site in block.sites
        if block.index not in dropped
    )
    return Recipe(
        model_hash=spec.model_hash,
        context_tokens=512,
        drop_blocks=dropped,
        sites=sites,
        table_kernel=KERNEL,
        rounding=rounding,  # type: ignore[arg-type]
    )


def work(model: Path, output: Path, rounding: str, limit_bytes: int) -> None:
    """What is measured, in a process of its own; says on stdout, as JSON lines, where it is."""
    from edgeprune.calibrate.documents import read_documents
    from edgeprune.chat_template import ChatTemplate
    from edgeprune.demo.paths import demo_model_path, demo_text_path
    from edgeprune.intake.spec import read_spec
    from edgeprune.pipeline.by_block import ByBlockRequest, bundle_by_block
    from edgeprune.pipeline.host_by_block import step_bytes
    from edgeprune.schema.budget import Workload
    from edgeprune.schema.events import Event, NullProgress

    class Said(NullProgress):
        def emit(self, event: Event) -> None:
            # The long stages in their steps: export says what it does next, compress which pass is finished.
            is_step = event.kind == "stage_advanced" and event.stage in ("compress", "export")
            if is_step and ": " not in event.message:
                return  # a block of a pass
            words = event.message.split(": ")
            what = f"compress: after {words[0]}" if event.stage == "compress" else f"{event.stage}: {words[-1]}"
            said = {"stage": what if is_step else event.stage, "kind": event.kind, "message": event.message}
            print(json.dumps(said), flush=True)

    render = ChatTemplate(demo_model_path())
    documents = {
        name: read_documents([demo_text_path("medicine", name)], render=render) for name in ("calibration", "report")
    }
    recipe = recipe_of(model, rounding)
    steps = step_bytes(read_spec(model), recipe, token_count=WINDOW_TOKENS * WINDOWS)
    print(json.dumps({"stage": "start", "predicted": steps}), flush=True)
    request = ByBlockRequest(
        model=model,
        recipe=recipe,
        domain=tuple(documents["calibration"]),
        report=tuple(documents["report"][:4]),
        window_tokens=WINDOW_TOKENS,
        window_count=WINDOWS,
        workload=Workload(context_tokens=512, thread_count=int(os.environ.get("OMP_NUM_THREADS", "2"))),
        max_host_memory_bytes=limit_bytes,
    )
    manifest = bundle_by_block(request, output=output, progress=Said())
    parity = manifest.parity
    print(json.dumps({"stage": "end", "exact": parity.exact_logit_difference, "largest": parity.max_logit_difference}))


class Watch:
    """Anonymous memory of a process and its children, by the stage they are in."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.stage = "start"
        self.peaks: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.processor_seconds: dict[str, float] = {}
        self.high_water = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":  # noqa: PYI034 - typing has Self from 3.11 on
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        last, last_used = time.monotonic(), 0.0
        while not self._stop.wait(INTERVAL_S):
            now, stage = time.monotonic(), self.stage
            anonymous, high, used = self._read()
            self.peaks[stage] = max(self.peaks.get(stage, 0), anonymous)
            self.seconds[stage] = self.seconds.get(stage, 0.0) + now - last
            self.processor_seconds[stage] = self.processor_seconds.get(stage, 0.0) + max(0.0, used - last_used)
            self.high_water = max(self.high_water, high)
            last, last_used = now, max(used, last_used)

    def _read(self) -> tuple[int, int, float]:
        anonymous = high = 0
        used = 0.0
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            for each in (process, *process.children(recursive=True)):
                times = each.cpu_times()
                used += times.user + times.system
                with contextlib.suppress(OSError):
                    memory = parse_status(Path(f"/proc/{each.pid}/status").read_text())
                    anonymous += memory.anonymous_bytes or 0
                    high = max(high, memory.peak_rss_bytes or 0)
        return anonymous, high, used


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path | None]:
    """A memory cgroup below this process's own, gone afterwards; None where none can be made."""
    made = None
    for parent in group_folders("memory")[:1]:
        for name in ("memory.limit_in_bytes", "memory.max"):
            folder = parent / f"edgeprune-bench-{os.getpid()}"
            with contextlib.suppress(OSError):
                if (parent / name).exists():
                    folder.mkdir()
                    made = folder
                    (folder / name).write_text(str(limit_bytes))
                    (folder / "cgroup.procs").touch()
                    break
            if made is not None:  # made, but not to be limited
                made.rmdir()
                made = None
    try:
        yield made
    finally:
        if made is not None:
            with contextlib.suppress(OSError):
                made.rmdir()


def measure(model: Path, bundle: Path, rounding: str, limit_bytes: int, *, with_group: bool) -> dict[str, Any]:
    """Run the work and watch it."""
    command = [sys.executable, str(Path(__file__)), "--work", str(model), str(bundle), rounding, str(limit_bytes)]
    found: dict[str, Any] = {}
    with memory_group(limit_bytes) if with_group else contextlib.nullcontext() as group:
        started = time.monotonic()
        # Freed temporaries are given back at once, and threads do not each keep a heap.
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            if group is not None:
                with contextlib.suppress(OSError):
                    (group / "cgroup.procs").write_text(str(process.pid))
                    found["enforced_by"] = str(group.parent)
            assert process.stdout is not None
            with Watch(process.pid) as watch:
                for line in process.stdout:
                    said = json.loads(line)
                    if said.get("kind") != "noted":
                        watch.stage = said["stage"]
                    found |= {key: said[key] for key in ("predicted", "exact", "largest") if key in said}
                    print(f"  {time.monotonic() - started:7.1f} s  {line.strip()}", file=sys.stderr, flush=True)
        found |= {
            "seconds": time.monotonic() - started,
            "exit_code": process.returncode,
            "peaks": watch.peaks,
            "stage_seconds": watch.seconds,
            "stage_processor_seconds": watch.processor_seconds,
            "vm_hwm_bytes": watch.high_water,
            "anonymous_peak_bytes": max(watch.peaks.values(), default=0),
        }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounding", choices=["nearest", "gptq"], default="nearest")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--no-group", action="store_true")
    arguments = parser.parse_args()
    shape = QUICK if arguments.quick else FULL
    size = source_bytes(shape)
    needed = round(size * 1.85) + 200_000_000
    place = arguments.folder or HERE / "results"
    place.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place).free
    if free < needed:
        print(f"{format_bytes(needed)} of disk are needed in {place}, {format_bytes(free)} are free", file=sys.stderr)
        return 2
    limit = limit_of(shape)
    with tempfile.TemporaryDirectory(dir=place, prefix="host-memory-") as folder:
        model, bundle = Path(folder) / "model", Path(folder) / "bundle"
        print(f"writing {format_bytes(size)} of weights", file=sys.stderr, flush=True)
        write_model(model, shape)
        found = measure(model, bundle, arguments.rounding, limit, with_group=not arguments.no_group)
        bundle_bytes = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    found |= {
        "shape": vars(shape),
        "rounding": arguments.rounding,
        "limit_bytes": limit,
        "limit_s": None if arguments.quick else LIMIT_S,
        "source_bytes": size,
        "bundle_bytes": bundle_bytes,
        "seconds_per_gigabyte": found["seconds"] / (size / 1e9),
    }
    is_met = found["exit_code"] == 0 and found["anonymous_peak_bytes"] <= limit
    found["is_met"] = is_met and (arguments.quick or found["seconds"] <= LIMIT_S)
    report(found)
    name = "host_memory_quick.json" if arguments.quick else "host_memory.json"
    path = arguments.output or HERE / "results" / name
    path.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
    return 0 if found["is_met"] else 1


def report(found: dict[str, Any]) -> None:
    """The table."""
    print(f"{'stage':<40} {'seconds':>9} {'processor':>10} {'anonymous peak':>15}")
    for stage, peak in found["peaks"].items():
        used = found["stage_processor_seconds"][stage]
        print(f"{stage[:40]:<40} {found['stage_seconds'][stage]:>9.1f} {used:>10.1f} {format_bytes(peak):>15}")
    used = sum(found["stage_processor_seconds"].values())
    print(f"{'all':<40} {found['seconds']:>9.1f} {used:>10.1f} {format_bytes(found['anonymous_peak_bytes']):>15}")
    for step, size in found.get("predicted", {}).items():
        print(f"predicted for {step:<47} {format_bytes(size):>15}")
    print(f"limit {format_bytes(found['limit_bytes'])}, enforced by {found.get('enforced_by', 'nobody')}")
    print(f"VmHWM {format_bytes(found['vm_hwm_bytes'])}, mapped files included")
    print(f"{found['seconds_per_gigabyte']:.1f} s a gigabyte of {format_bytes(found['source_bytes'])}")
    print(f"bundle {format_bytes(found['bundle_bytes'])}, logits within {found.get('exact')}")
    print("met" if found["is_met"] else "not met")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
        sys.exit(0)
    sys.exit(main())
