"""Graphs as exporters write them: fused attention, attention that concatenates, and float16."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mobius
import numpy as np
import onnx_ir as ir
import pytest
import torch
import transformers
from numpy.typing import NDArray

from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.generate import greedy
from edgeprune.runtime.session import open_session
from tests.tiny import write_tiny_llama

TOKENS = np.random.default_rng(3).integers(0, 512, 60)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = write_tiny_llama(tmp_path_factory.mktemp("model"))
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def expected(model: Any) -> NDArray[np.float32]:
    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.from_numpy(TOKENS)[None]).logits[0].numpy()
    return logits


def export(model: Any, folder: Path, *, provider: str, dtype: ir.DataType) -> Any:
    kind = mobius.registry.get_config_class("llama") or mobius.CausalLMConfig
    config = replace(kind.from_transformers(model.config), dtype=dtype)
    module = mobius.registry.get("llama")(config)
    graph = mobius.build_from_module(module, config, execution_provider=provider)["model"]
    weights = {name: value.to(torch.float16) if dtype == ir.DataType.FLOAT16 else value
               for name, value in model.state_dict().items()}  # fmt: skip
    mobius.apply_weights(graph, module.preprocess_weights(weights))
    ir.save(graph, folder / "model.onnx", external_data="model.onnx.data")
    return open_session(folder / "model.onnx", thread_count=1)


@pytest.mark.parametrize(
    ("provider", "dtype", "is_shared", "tolerance"),
    [
        ("cpu", ir.DataType.FLOAT, True, 1e-4),
        ("default", ir.DataType.FLOAT, False, 1e-4),
        ("cpu", ir.DataType.FLOAT16, False, 0.3),
        ("cuda", ir.DataType.FLOAT16, True, 0.3),
    ],
)
def test_every_form_of_graph_follows_torch(
    model: Any,
    expected: NDArray[np.float32],
    tmp_path: Path,
    provider: str,
    dtype: ir.DataType,
    is_shared: bool,
    tolerance: float,
) -> None:
    session = export(model, tmp_path, provider=provider, dtype=dtype)
    decoder = Decoder(session, max_tokens=64, prefill_chunk_tokens=16)
    found = np.concatenate(list(decoder.logits(TOKENS)))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < tolerance
    assert decoder.is_cache_shared == is_shared
    decoder.rewind(30)
    steps = np.stack([decoder.step(int(token)) for token in TOKENS[30:]])
    assert np.abs(steps - expected[30:]).max() < tolerance
    if dtype == ir.DataType.FLOAT:
        prompt = TOKENS[:20]
        with torch.inference_mode():
            inputs = torch.from_numpy(prompt)[None]
            generated = model.generate(
                inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=24, min_new_tokens=24, do_sample=False
            )
        decoder.reset()
        assert greedy(decoder, prompt.tolist(), 24) == generated[0, 20:].tolist()
