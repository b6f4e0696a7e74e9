"""What optimum's ORTModelForCausalLM can load of our bundles: torch-free, asked before a run and when a bundle is made.

optimum-onnx 0.1 makes the empty cache itself, from config.json alone: the same number of heads in every block
(`num_key_value_heads` for some model types, `num_attention_heads` for the others), and a head size of `hidden_size //
num_attention_heads` (`head_dim` for some). A graph with other shapes is refused by onnxruntime at the first token. The
type is no limit: what it makes is float32, and cast to the type of the graph's input before it is bound, int8 too.
Read from `optimum/onnxruntime/modeling_decoder.py`; tests/parity/test_optimum.py runs it.
"""

from edgeprune.schema.model import ModelSpec

__all__ = ["optimum_refusal", "optimum_verdict"]

_BY_KV_HEADS = frozenset({"gemma", "gemma3_text", "llama", "mistral", "qwen2", "qwen3", "smollm3"})
"""Model types, of those we export, whose cache it sizes by `num_key_value_heads`."""
_BY_HEAD_DIM = frozenset({"gemma", "gemma3_text"})
"""Model types whose head size it takes from `head_dim`."""


def optimum_refusal(spec: ModelSpec, *, num_heads: int) -> str | None:
    """Why optimum cannot load a bundle of these shapes; None where it can.

    Args:
        spec: of the edited model, as in the manifest.
        num_heads: `num_attention_heads` in the bundle's config.json, which no edit changes.
    """
    counts = sorted({block.num_kv_heads for block in spec.attention_blocks})
    if len(counts) > 1:
        return f"its blocks have {' and '.join(map(str, counts))} key-value heads, optimum takes one number for all"
    if spec.model_type not in _BY_KV_HEADS and counts[0] != num_heads:
        return (
            f"it has {counts[0]} key-value heads, optimum takes the {num_heads} query heads of a {spec.model_type} for "
            "that"
        )
    head_size = spec.attention_blocks[0].head_dim
    if spec.model_type not in _BY_HEAD_DIM and head_size != spec.hidden_size // num_heads:
        return (
            f"its head size is {head_size}, optimum takes hidden / heads = {spec.hidden_size} / {num_heads} = "
            f"{spec.hidden_size // num_heads}"
        )
    return None


def optimum_verdict(spec: ModelSpec, *, num_heads: int) -> str:
    """`loads`, or `refused (reason)`, as the manifest has it."""
    reason = optimum_refusal(spec, num_heads=num_heads)
    return "loads" if reason is None else f"refused ({reason})"
