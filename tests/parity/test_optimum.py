"""ORTModelForCausalLM of optimum-onnx against the manifest's word: loads and writes torch's tokens, or is refused.

optimum-onnx pins an older transformers than ours, so the test makes an environment of its own: a folder of packages
that come before this environment's, without those both share (torch, onnxruntime, numpy).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgeprune.schema.recipe import KeepGroups
from tests.parity.bundles import all_edits, export, no_edits, tiny

PACKAGES = (
    "optimum-onnx==0.1.*",
    "optimum==2.1.*",
    "transformers>=4.57,<4.58",
    "huggingface-hub>=0.34,<1.0",
    "tokenizers>=0.22,<0.23",
)

GENERATE = """
import json, sys
import torch
from optimum.onnxruntime import ORTModelForCausalLM
model = ORTModelForCausalLM.from_pretrained(sys.argv[1])
prompt = torch.tensor([json.loads(sys.argv[2])])
answer = model.generate(prompt, max_new_tokens=int(sys.argv[3]), do_sample=False, eos_token_id=-1)
print(json.dumps(answer[0, prompt.shape[1]:].tolist()))
"""


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables under which this interpreter finds optimum-onnx."""
    kept = os.environ.get("EDGEPRUNE_OPTIMUM")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("optimum")
    if not (folder / "optimum").is_dir():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
        found = subprocess.run(install, capture_output=True, text=True, timeout=900, check=False)
        if found.returncode != 0:
            pytest.skip(f"optimum-onnx cannot be installed here: {found.stderr.strip().splitlines()[-1:]}")
    return {**os.environ, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def _generate(
    folder: Path, prompt: tuple[int, ...], count: int, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", GENERATE, str(folder), json.dumps(prompt), str(count)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "kernel"), [("llama", "int4_b32_a0"), ("gpt2", "fp32")])
def test_what_the_manifest_says_loads_writes_torchs_tokens(
    model_type: str, kernel: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    loaded = tiny(tmp_path / "model", model_type)
    exported = export(loaded, all_edits(loaded, kernel), tmp_path / "bundle")
    assert exported.manifest.optimum == "loads"
    parity = exported.manifest.parity
    found = _generate(exported.folder, parity.greedy_prompt, len(parity.greedy_tokens), environment)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout.splitlines()[-1]) == list(parity.greedy_tokens)


@pytest.mark.slow
def test_an_8_bit_cache_loads_too(tmp_path: Path, environment: dict[str, str]) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    exported = export(loaded, replace(no_edits(loaded), kv_bits=8), tmp_path / "bundle")
    assert exported.manifest.optimum == "loads"
    parity = exported.manifest.parity
    found = _generate(exported.folder, parity.greedy_prompt, len(parity.greedy_tokens), environment)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout.splitlines()[-1]) == list(parity.greedy_tokens)


@pytest.mark.slow
def test_what_the_manifest_says_is_refused_is(tmp_path: Path, environment: dict[str, str]) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    recipe = replace(no_edits(loaded), keep_groups=(KeepGroups(block=1, kept_count=1),))
    exported = export(loaded, recipe, tmp_path / "bundle")
    assert exported.manifest.optimum is not None
    assert exported.manifest.optimum.startswith("refused (")
    assert _generate(exported.folder, exported.manifest.parity.greedy_prompt, 4, environment).returncode != 0
