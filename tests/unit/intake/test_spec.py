"""`read_spec`: shapes and facts from config.json and headers, without torch."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.errors import ModelError
from edgeprune.intake.spec import read_spec
from tests.tiny import write_safetensors, write_tiny_gpt2, write_tiny_llama

VARIANTS: dict[str, Any] = {
    "llama": lambda folder: write_tiny_llama(folder),
    "llama_untied_biased": lambda folder: write_tiny_llama(
        folder, tie_word_embeddings=False, attention_bias=True, mlp_bias=True
    ),
    "mistral": lambda folder: write_tiny_llama(folder, model_type="mistral", head_dim=32),
    "qwen2": lambda folder: write_tiny_llama(folder, model_type="qwen2"),
    "qwen3": lambda folder: write_tiny_llama(folder, model_type="qwen3", head_dim=32),
    "gpt2": lambda folder: write_tiny_gpt2(folder),
    "gpt2_untied": lambda folder: write_tiny_gpt2(folder, tie_word_embeddings=False, n_inner=100, prefix=""),
}


def edit_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameter_count_is_that_of_transformers(tmp_path: Path, variant: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = VARIANTS[variant](tmp_path / "m")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    assert read_spec(folder).parameter_count == sum(parameter.numel() for parameter in model.parameters())


def test_facts_of_the_files(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "tiny", dtype="bfloat16", pad_token_id=7)
    spec = read_spec(folder)
    assert spec.name == "tiny"
    assert spec.architecture == "LlamaForCausalLM"
    assert spec.source_dtype == "bfloat16"
    assert spec.source_bytes == (folder / "model.safetensors").stat().st_size
    assert abs(spec.source_bytes - 2 * spec.parameter_count) < 8192
    assert spec.tokenizer_bytes == sum(
        (folder / name).stat().st_size for name in ("tokenizer.json", "tokenizer_config.json")
    )
    assert (spec.bos_token_id, spec.eos_token_ids, spec.pad_token_id) == (0, (0,), 7)
    assert spec.license is None
    assert spec.site("blocks.2.k").out_features == 32


def test_several_ends_of_text_are_kept(tmp_path: Path) -> None:
    folder = edit_config(write_tiny_llama(tmp_path / "m"), eos_token_id=[3, 4, 9999], pad_token_id=-1)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [4, 5]}))
    spec = read_spec(folder)
    assert spec.eos_token_ids == (4, 5, 3)
    assert spec.pad_token_id is None


def test_the_hash_follows_the_weights_and_the_configuration(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "a")
    first = read_spec(folder).model_hash
    assert read_spec(write_tiny_llama(tmp_path / "b")).model_hash == first
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x01")
    changed = read_spec(folder).model_hash
    assert changed != first
    edit_config(folder, rms_norm_eps=1e-6)
    assert read_spec(folder).model_hash not in (first, changed)


@pytest.mark.parametrize(
    ("front_matter", "found"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model\n", "apache-2.0"),
        ("---\r\nlicense: 'mit'\r\n---\r\n", "mit"),
        ("---\nlicense: other\nlicense_name: llama3.2\n---\n", "llama3.2"),
        ("# Model\nlicense: mit\n", None),
        ("---\nlanguage: en\n---\nlicense: mit\n", None),
    ],
)
def test_the_licence_is_what_the_model_says(tmp_path: Path, front_matter: str, found: str | None) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    (folder / "README.md").write_bytes(front_matter.encode())
    assert read_spec(folder).license == found


def test_a_snapshot_of_the_hub_cache_is_named_after_the_hub_id(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "models--org--tiny" / "snapshots" / ("0" * 40), shard_count=2)
    blobs = tmp_path / "models--org--tiny" / "blobs"
    blobs.mkdir()
    for path in list(folder.iterdir()):
        blob = blobs / path.name
        path.rename(blob)
        path.symlink_to(blob)
    assert read_spec(folder).name == "org/tiny"


def test_missing_folder_and_configuration(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a folder"):
        read_spec(tmp_path / "none")
    with pytest.raises(ModelError, match=r"has no config\.json"):
        read_spec(tmp_path)


def test_a_model_compressed_before_is_refused(tmp_path: Path) -> None:
    folder = edit_config(write_tiny_llama(tmp_path / "m"), edgeprune={"format_version": 1})
    with pytest.raises(ModelError, match="already compressed; give the dense model"):
        read_spec(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"model_type": ' + b"9" * 9999])
def test_an_unreadable_configuration_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"config\.json (is not valid JSON|holds no JSON object)"):
        read_spec(folder)


def test_a_billion_blocks_are_refused_at_once(tmp_path: Path) -> None:
    folder = edit_config(write_tiny_llama(tmp_path / "m"), num_hidden_layers=10**9)
    started = time.perf_counter()
    with pytest.raises(ModelError, match="num_hidden_layers is 1000000000"):
        read_spec(folder)
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 4}, r"lack the tensor 'layers\.3\.input_layernorm\.weight' and 8 more"),
        ({"num_hidden_layers": 2}, r"hold the tensor 'model\.layers\.2\..*' that config\.json does not describe"),
        ({"hidden_size": 128}, r"has the shape \[512, 64\], but config\.json describes \[512, 128\]"),
        ({"vocab_size": 2**24}, r"describes \[16777216, 64\]"),
        ({"num_key_value_heads": 4}, r"'model\.layers\.0\.self_attn\.k_proj\.weight' has the shape \[32, 64\]"),
        ({"tie_word_embeddings": False}, r"lack the tensor 'lm_head\.weight'"),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}, r"q_norm"),
    ],
)
def test_weights_must_have_the_configured_shapes(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = edit_config(write_tiny_llama(tmp_path / "m"), **changes)
    with pytest.raises(ModelError, match=words):
        read_spec(folder)


def test_integer_weights_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    path = folder / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].replace(b'"F32"', b'"I32"')
    path.write_bytes(content[:8] + header + content[8 + length :])
    with pytest.raises(ModelError, match="is stored as I32; only float32, float16 and bfloat16"):
        read_spec(folder)


def test_stored_buffers_and_a_doubly_stored_head_are_no_parameters(tmp_path: Path) -> None:
    folder = write_tiny_gpt2(tmp_path / "m", prefix="", n_layer=1)
    count = read_spec(folder).parameter_count
    tensors = _read_tensors(folder / "model.safetensors")
    tensors["h.0.attn.bias"] = np.ones((1, 1, 8, 8), np.float32)
    tensors["lm_head.weight"] = tensors["wte.weight"]
    write_safetensors(folder / "model.safetensors", tensors)
    assert read_spec(folder).parameter_count == count


def test_no_torch_is_needed(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    script = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        heavy = {'torch', 'transformers', 'optimum', 'safetensors', 'tokenizers', 'huggingface_hub'}\n"
        "        if name.split('.')[0] in heavy:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from pathlib import Path\n"
        "from edgeprune.intake.spec import read_spec\n"
        "from edgeprune.intake.families import describe_families\n"
        "from edgeprune.intake.source import resolve_model\n"
        "describe_families()\n"
        "assert read_spec(resolve_model(sys.argv[1])).parameter_count == 125376\n"
        "try:\n"
        "    resolve_model('org/name')\n"
        "except Exception as error:\n"
        "    assert 'edgeprune[compress]' in str(error), error\n"
        "else:\n"
        "    raise SystemExit('not refused')\n"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True, cwd=root, timeout=60)


@pytest.mark.lab
@pytest.mark.skipif("EDGEPRUNE_LAB" not in os.environ, reason="EDGEPRUNE_LAB is not set")
def test_the_lab_model() -> None:
    spec = read_spec(Path(os.environ["EDGEPRUNE_LAB"]) / "model")
    assert spec.parameter_count == 13_902_080
    assert (spec.source_dtype, len(spec.blocks), spec.pad_token_id) == ("bfloat16", 16, 1)


def _read_tensors(path: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(path))
