"""lm_eval's onnxruntime back ends, and its client of completions, against `hf` on the torch model: the same items.

lm_eval and what it alone needs come into a folder of packages of their own, before this environment's; what both share
(torch, transformers, onnxruntime, numpy) stays. Questions and tasks are local files.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgeprune.compress.save import save_hf
from edgeprune.demo.paths import demo_choice_path, demo_model_path
from edgeprune.intake.load import load_model
from edgeprune.schema.budget import Workload
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import KeepChannels, Recipe
from tests.parity.bundles import export, no_edits

PACKAGES = (
    "lm_eval==0.4.13", "datasets", "evaluate", "pytablewriter", "rouge-score", "sacrebleu", "sqlitedict", "word2number",
    "more_itertools", "dill", "xxhash", "multiprocess", "pyarrow", "pandas", "pytz", "python-dateutil", "tabledata",
    "dataproperty", "mbstrdecoder", "typepy", "tcolorpy", "pathvalidate", "colorama", "lxml", "portalocker", "nltk",
    "absl-py", "accelerate", "tabulate", "tenacity", "aiohttp", "aiosignal", "aiohappyeyeballs", "attrs", "frozenlist",
    "multidict", "propcache", "yarl",
)  # fmt: skip

CONTEXT = 256
QUESTION_COUNT = 40
TASK = "edgeprune_questions"
POINT = 0.01
"""Of accuracy, which lm_eval gives as a share."""

SCORE = """
import json, sys
import lm_eval
from lm_eval.tasks import TaskManager

tasks = TaskManager(include_path=sys.argv[1], include_defaults=False)
answers = []
for kind, arguments in json.loads(sys.argv[2]):
    model = kind
    if kind == "hf-compressed":
        from edgeprune.compress.load import load
        from lm_eval.models.huggingface import HFLM
        loaded = load(arguments["pretrained"])
        model, arguments = HFLM(pretrained=loaded.model, tokenizer=arguments["pretrained"]), None
    found = lm_eval.simple_evaluate(
        model=model, model_args=arguments, tasks=["edgeprune_questions"], bootstrap_iters=0, device="cpu",
        task_manager=tasks,
    )
    samples = sorted(found["samples"]["edgeprune_questions"], key=lambda sample: sample["doc_id"])
    answers.append({
        "accuracy": found["results"]["edgeprune_questions"]["acc,none"],
        "scores": [[score for score, *_ in sample["filtered_resps"]] for sample in samples],
    })
print("\\n" + json.dumps(answers))
"""


@dataclass(frozen=True)
class Scored:
    accuracy: float
    scores: list[list[float]]
    """Log-probabilities of each question's choices."""


@dataclass(frozen=True)
class Case:
    bundle: Path
    reference: str
    """Kind of lm_eval's model that stands for torch."""
    arguments: dict[str, Any]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables under which this interpreter finds lm_eval."""
    kept = os.environ.get("EDGEPRUNE_LM_EVAL")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("lm_eval")
    if not (folder / "lm_eval").is_dir():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
        found = subprocess.run(install, capture_output=True, text=True, timeout=900, check=False)
        if found.returncode != 0:
            pytest.skip(f"lm_eval cannot be installed here: {found.stderr.strip().splitlines()[-1:]}")
    root = str(Path(__file__).resolve().parents[2])
    cache = tmp_path_factory.mktemp("hf_home")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), root]),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(cache),
        "OMP_NUM_THREADS": "1",
        "OPENAI_API_KEY": "none",
    }


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one task of multiple choice over local questions: the lab's where it is, or the demo's."""
    folder = tmp_path_factory.mktemp("tasks")
    lab = os.environ.get("EDGEPRUNE_LAB")
    source = Path(lab) / "choice" / "law.valid.jsonl" if lab else demo_choice_path("law")
    lines = source.read_text(encoding="utf-8").splitlines()[:QUESTION_COUNT]
    items = [{name: json.loads(line)[name] for name in ("prompt", "choices", "answer")} for line in lines]
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    (folder / "task.yaml").write_text(
        f"""task: {TASK}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {json.dumps(str(questions))}
test_split: test
output_type: multiple_choice
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: answer
target_delimiter: ""
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
""",
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="module", params=["dense", "compressed"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("bundle")
    lab = os.environ.get("EDGEPRUNE_LAB")
    model_folder = Path(lab) / "model" if lab else demo_model_path()
    loaded = load_model(model_folder)
    workload = Workload(context_tokens=CONTEXT, prefill_chunk_tokens=64, thread_count=1)
    dense = replace(no_edits(loaded), context_tokens=CONTEXT)
    if request.param == "dense":
        exported = export(loaded, dense, folder / "bundle", workload=workload)
        return Case(exported.folder, "hf", {"pretrained": str(model_folder), "dtype": "float32"})
    recipe = _compressing(dense, loaded.spec)
    exported = export(loaded, recipe, folder / "bundle", workload=workload)
    save_hf(exported.compressed, recipe, folder / "hf")
    return Case(exported.folder, "hf-compressed", {"pretrained": str(folder / "hf")})


def _compressing(dense: Recipe, spec: ModelSpec) -> Recipe:
    """A block dropped, another narrowed, a third one's attention output factored: what no plain loader takes."""
    factored = next(site.name for site in spec.blocks[3].sites if site.role == "o")
    dropped = {site.name for site in spec.blocks[1].sites}
    kept = [replace(site, rank=48) if site.name == factored else site for site in dense.sites]
    return replace(
        dense,
        drop_blocks=(1,),
        keep_channels=(KeepChannels(block=2, kept_count=spec.blocks[2].intermediate_size * 3 // 4),),
        sites=tuple(site for site in kept if site.name not in dropped),
    )


def _score(models: list[tuple[str, dict[str, Any]]], tasks: Path, environment: dict[str, str]) -> dict[str, Scored]:
    """Kind -> what lm_eval makes of each of its models, one after another in one process."""
    command = [sys.executable, "-c", SCORE, str(tasks), json.dumps(models)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800, check=False)
    assert found.returncode == 0, found.stderr[-3000:]
    answers = json.loads(found.stdout.splitlines()[-1])
    return {kind: Scored(**answer) for (kind, _), answer in zip(models, answers, strict=True)}


@contextmanager
def _served(bundle: Path, environment: dict[str, str]) -> Iterator[str]:
    command = [sys.executable, "-m", "edgeprune", "serve", str(bundle), "--port", "0", "--threads", "1"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            line = next(line for line in server.stderr if "http://127.0.0.1:" in line)
            yield line[line.index("http://") :].split()[0]
        finally:
            server.terminate()


@pytest.mark.slow
def test_every_back_end_scores_the_bundle_as_hf_scores_torch(
    case: Case, tasks: Path, environment: dict[str, str]
) -> None:
    bundle = {"pretrained": str(case.bundle)}
    with _served(case.bundle, environment) as address:
        served = {
            "model": "bundle",
            "base_url": f"{address}/v1/completions",
            "tokenizer": str(case.bundle),
            "tokenizer_backend": "huggingface",
            "max_length": CONTEXT,
            "batch_size": 4,
        }
        kinds = [("onnxruntime", bundle), ("onnxruntime-genai", bundle), ("local-completions", served)]
        found = _score([(case.reference, case.arguments), *kinds], tasks, environment)
    reference = found.pop(case.reference)
    assert len(reference.scores) == QUESTION_COUNT
    assert len(found) == 3
    for kind, scored in found.items():
        print(f"{kind}: accuracy {scored.accuracy:.4f}, hf {reference.accuracy:.4f}")
        assert abs(scored.accuracy - reference.accuracy) <= 0.1 * POINT, kind
        for mine, torchs in zip(scored.scores, reference.scores, strict=True):
            assert mine == pytest.approx(torchs, rel=1e-3, abs=1e-3), kind
