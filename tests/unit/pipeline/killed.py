"""Driver of the resume test: a search on a tiny model, undisturbed and killed again and again. Prints one JSON object.

    python tests/unit/pipeline/killed.py FOLDER KILLS

One process imports torch once and forks a child for each attempt, so that twenty kills cost seconds. A kill comes at a
random moment of the first half of the time the undisturbed search took: on a busy machine the next may be faster.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch

from edgeprune.artifacts import RunFolder, write_record
from edgeprune.pipeline.request import read_manifest
from edgeprune.pipeline.stages import stage_named
from edgeprune.pipeline.table import Run, run_stages
from edgeprune.schema.budget import BudgetRequest, Limit
from edgeprune.schema.events import NullProgress
from edgeprune.schema.run import RunManifest, RunRequest
from tests.cli.conftest import write_domain
from tests.tiny import write_tiny_llama
from tests.unit.search.builders import make_device

__all__ = ["open_search", "prepare"]

EVALUATIONS = 8


def prepare(root: Path) -> RunFolder:
    """A run folder calibrated on a tiny model of two blocks, ready to be searched."""
    write_record(root / "device.json", make_device(kernels=("fp32", "int8_b32_a4", "int4_b32_a4")))
    request = RunRequest(
        model=str(write_tiny_llama(root / "model", num_hidden_layers=2)),
        device=str(root / "device.json"),
        domain=(str(write_domain(root / "domain.jsonl")),),
        general=(str(write_domain(root / "general.jsonl")),),
        budget=BudgetRequest(disk=Limit(percent_of_dense=0.4)),
        context_tokens=128,
        evaluations=EVALUATIONS,
    )
    folder = RunFolder(root / "run")
    folder.root.mkdir()
    write_record(folder.manifest, RunManifest(request=request))
    run_stages(tuple(map(stage_named, ("intake", "profile", "calibrate"))), open_search(folder))
    return folder


def open_search(folder: RunFolder) -> Run:
    """The run as a new process finds it."""
    manifest = read_manifest(folder)
    return Run(folder=folder, request=manifest.request, manifest=manifest, progress=NullProgress())


def _search(folder: RunFolder) -> int:
    """A child that searches; its process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run_stages(tuple(map(stage_named, ("search", "refine"))), open_search(folder))
            code = 0
        finally:
            os._exit(code)
    return child


def _finished(folder: RunFolder) -> dict[str, tuple[int, int, int]]:
    """Evaluations whose files are whole: name -> what changes when a file is written again."""
    found = {}
    for path in sorted((folder.root / "evaluations").glob("*.json")):
        json.loads(path.read_bytes())  # a name without a leading dot is never half a file
        state = path.stat()
        found[path.name] = (state.st_ino, state.st_mtime_ns, state.st_size)
    return found


def main(root: Path, kills: int) -> dict[str, object]:
    torch.set_num_threads(1)
    calibrated = prepare(root)
    killed = RunFolder(Path(shutil.copytree(calibrated.root, root / "killed")))
    started = time.monotonic()
    _, status = os.waitpid(_search(calibrated), 0)
    took_s = time.monotonic() - started
    moments = random.Random(0)
    repeated: list[str] = []
    counts: list[int] = []
    alive_when_killed = 0
    for _ in range(kills):
        before = _finished(killed)
        child = _search(killed)
        time.sleep(moments.uniform(0.0, 0.5 * took_s))
        os.kill(child, signal.SIGKILL)
        _, ended = os.waitpid(child, 0)
        alive_when_killed += os.WIFSIGNALED(ended)
        after = _finished(killed)
        repeated += [name for name, state in before.items() if after.get(name) != state]
        counts.append(len(after))
    before = _finished(killed)
    _, resumed_status = os.waitpid(_search(killed), 0)
    after = _finished(killed)
    repeated += [name for name, state in before.items() if after.get(name) != state]
    names = ("recipe.toml", "residuals.json")
    return {
        "statuses": [status, resumed_status],
        "repeated": repeated,
        "counts": counts,
        "alive_when_killed": alive_when_killed,
        "undisturbed": sorted(_finished(calibrated)),
        "resumed": sorted(after),
        "same": [(calibrated.root / name).read_bytes() == (killed.root / name).read_bytes() for name in names],
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
