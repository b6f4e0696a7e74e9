"""`genai_config.json`: what onnxruntime-genai needs to generate from the bundle.

The type is always `decoder`: genai refuses GPT-2 under its own name, and all a decoder needs is named here.
"""

from typing import Any

import onnx_ir as ir

from edgeprune.export.weights import GRAPH_FILE
from edgeprune.schema.model import ModelSpec

__all__ = ["genai_config"]


def genai_config(spec: ModelSpec, graph: ir.Graph, *, context_tokens: int) -> dict[str, Any]:
    """The configuration of one bundle, ready for JSON.

    Args:
        spec: shapes of the edited model; blocks are counted by their key/value pairs.
        graph: says whether positions are an input.
        context_tokens: longest text, prompt included.
    """
    first = spec.attention_blocks[0]
    inputs = {
        "input_ids": "input_ids",
        "attention_mask": "attention_mask",
        "past_key_names": "past_key_values.%d.key",
        "past_value_names": "past_key_values.%d.value",
    }
    if any(value.name == "position_ids" for value in graph.inputs):
        inputs["position_ids"] = "position_ids"
    ends = list(spec.eos_token_ids)
    model: dict[str, Any] = {
        "context_length": context_tokens,
        "decoder": {
            "filename": GRAPH_FILE,
            "head_size": first.head_dim,
            "hidden_size": spec.hidden_size,
            "inputs": inputs,
            "num_attention_heads": first.num_heads,
            "num_hidden_layers": len(spec.attention_blocks),
            "num_key_value_heads": first.num_kv_heads,
            "outputs": {
                "logits": "logits",
                "present_key_names": "present.%d.key",
                "present_value_names": "present.%d.value",
            },
            "session_options": {
                "log_id": "onnxruntime-genai",
                "provider_options": [],
                # Without it, MatMulInteger with signed weights saturates on x86 without VNNI (AVX2): the sum of two
                # products exceeds 16 bits, and logits were seen to be off by 20 % where 4 % is the rounding's share.
                "session.x64quantprecision": "1",
            },
        },
        "eos_token_id": ends[0] if len(ends) == 1 else ends,
        "pad_token_id": _padding(spec),
        "type": "decoder",
        "vocab_size": spec.vocab_size,
    }
    if spec.bos_token_id is not None:
        model["bos_token_id"] = spec.bos_token_id
    search = {"do_sample": False, "max_length": context_tokens, "past_present_share_buffer": True}
    return {"model": model, "search": search}


def _padding(spec: ModelSpec) -> int:
    """A padding token, which genai insists on although a batch of one never uses it."""
    if spec.pad_token_id is not None:
        return spec.pad_token_id
    return spec.eos_token_ids[0] if spec.eos_token_ids else 0
