"""Which configurations are read, and the sentence a user gets for the others."""

from typing import Any

import pytest

from edgeprune.errors import ModelError, UnsupportedArchitectureError
from edgeprune.intake.families import describe_families, family_for
from edgeprune.intake.families.rotary import check_rotary
from edgeprune.intake.families.window import read_window

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
def test_llama_likes_share_a_family(model_type: str) -> None:
    assert family_for({"model_type": model_type}).name == "llama"


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("bert", "an encoder, which does not generate text"),
        ("t5", "an encoder-decoder"),
        ("mixtral", "a mixture of experts"),
        ("mamba", "a state-space"),
        ("cohere2", "mixes sliding-window and full attention"),
        ("paligemma", "images or sound"),
    ],
)
def test_known_refusals_say_why_and_how_to_add(model_type: str, reason: str) -> None:
    with pytest.raises(UnsupportedArchitectureError) as caught:
        family_for({"model_type": model_type})
    message = str(caught.value)
    assert reason in message
    assert "The nearest supported one is" in message
    assert "edgeprune/intake/families and an adapter" in message


@pytest.mark.parametrize(("unknown", "nearest"), [("mistrall", "mistral"), ("qwen4", "qwen"), ("gpt3", "gpt2")])
def test_the_nearest_supported_type_is_named(unknown: str, nearest: str) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=f"nearest supported one is '{nearest}"):
        family_for({"model_type": unknown})


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"is_encoder_decoder": True}, "encoder-decoder"),
        ({"num_local_experts": 8}, "mixture of experts"),
        ({"vision_config": {"x": 1}}, "images or sound"),
        ({}, "unknown to this version"),
    ],
)
def test_an_unknown_type_is_told_by_its_fields(extra: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=reason):
        family_for({"model_type": "brand_new", **extra})


@pytest.mark.parametrize("value", [None, 3, "", ["llama"]])
def test_a_configuration_without_a_type_is_refused(value: Any) -> None:
    with pytest.raises(ModelError, match="names no model_type"):
        family_for({"model_type": value})


@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
@pytest.mark.parametrize("model_type", ["llama", "phi3", "gpt_neox"])
def test_quantised_checkpoints_are_refused(key: str, model_type: str) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=r"already quantised \(gptq.*bfloat16 or float32 release"):
        family_for({**LLAMA, "model_type": model_type, key: {"quant_method": "gptq"}})


@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
def test_checkpoints_in_2_of_4_sparsity_are_refused(key: str) -> None:
    sparsity = {"format": "sparse-24-bitmask", "sparsity_structure": "2:4", "targets": ["Linear"]}
    written = {"quant_method": "compressed-tensors", "format": "dense", "sparsity_config": sparsity}
    with pytest.raises(UnsupportedArchitectureError, match=r"stored sparse \(2:4.*dense release"):
        family_for({**LLAMA, key: written})


@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe", "phimoe", "olmoe", "gpt_oss"])
def test_mixtures_of_experts_are_refused(model_type: str) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=r"mixture of experts; .* every expert for every token"):
        family_for({**LLAMA, "model_type": model_type})


@pytest.mark.parametrize("model_type", ["llama", "smollm3", "gemma3_text"])
def test_experts_in_a_known_type_are_refused(model_type: str) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=r"names experts; mixtures of experts are not supported"):
        family_for({**LLAMA, "model_type": model_type, "num_local_experts": 8})


def test_every_family_says_what_builds_its_graph_and_the_adapter_agrees() -> None:
    from edgeprune.intake.adapters.registry import adapter_for
    from edgeprune.intake.adapters.wired import WiredAdapter

    supported = [entry for entry in describe_families() if entry.status == "supported"]
    assert len(supported) == 12
    for entry in supported:
        assert entry.family is not None
        is_wired = isinstance(adapter_for(entry.family), WiredAdapter)
        assert entry.engine == ("wired" if is_wired else "mobius")
        assert bool(entry.reason) == is_wired


@pytest.mark.parametrize("architecture", ["LlamaForSequenceClassification", "LlamaModel"])
def test_a_model_without_a_language_head_is_refused(architecture: str) -> None:
    with pytest.raises(UnsupportedArchitectureError, match="no language-model head"):
        family_for({**LLAMA, "architectures": [architecture]})


def test_every_type_is_described_once() -> None:
    described = describe_families()
    assert len({entry.model_type for entry in described}) == len(described)
    for entry in described:
        if entry.status == "supported":
            assert family_for({"model_type": entry.model_type}).name == entry.family
        else:
            assert entry.reason
            with pytest.raises(UnsupportedArchitectureError):
                family_for({"model_type": entry.model_type})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("num_hidden_layers", 10**9, r"num_hidden_layers is 1000000000, outside 1\.\.1024"),
        ("hidden_size", 0, "hidden_size is 0, outside"),
        ("hidden_size", -64, "hidden_size is -64, outside"),
        ("hidden_size", "64", "hidden_size is '64', not a whole number"),
        ("hidden_size", 64.0, "hidden_size is 64.0, not a whole number"),
        ("hidden_size", True, "hidden_size is True, not a whole number"),
        ("hidden_size", 62, "not a multiple of num_attention_heads"),
        ("hidden_size", None, "has no hidden_size"),
        ("vocab_size", 2**40, "vocab_size is 1099511627776, outside"),
        ("num_key_value_heads", 3, "not a multiple of num_key_value_heads"),
        ("rms_norm_eps", float("nan"), "rms_norm_eps is nan, not a positive number"),
        ("tie_word_embeddings", "yes", "neither true nor false"),
        ("head_dim", 15, "head_dim 15 is odd"),
        ("rope_parameters", 3, "not an object"),
        ("rope_theta", -1.0, "rope_theta is -1.0"),
    ],
)
def test_malformed_fields_are_named(key: str, value: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        family_for(LLAMA).shapes({**LLAMA, key: value})


def test_absent_fields_take_the_defaults_of_the_type() -> None:
    bare = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
    shapes = family_for(bare).shapes(bare)
    assert shapes.blocks[0].num_kv_heads == 4
    assert shapes.blocks[0].head_dim == 16
    assert shapes.max_positions == 2048
    assert not shapes.is_tied
    qwen3 = {**LLAMA, "model_type": "qwen3"}
    assert family_for(qwen3).shapes(qwen3).blocks[0].head_dim == 128


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "'yarn'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
    ],
)
def test_other_rotary_variants_are_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=words):
        check_rotary(config, head_dim=16)


@pytest.mark.parametrize(
    ("model_type", "config", "window"),
    [
        ("llama", {"sliding_window": 64}, None),
        ("mistral", {}, 4096),
        ("mistral", {"sliding_window": None}, None),
        ("mistral", {"sliding_window": 64}, 64),
        ("qwen2", {"sliding_window": 64}, None),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 64}, None),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0}, 64),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 64, "layer_types": ["sliding_attention"] * 3}, 64),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 64, "layer_types": ["full_attention"] * 3}, None),
    ],
)
def test_the_window_is_the_one_transformers_uses(model_type: str, config: dict[str, Any], window: int | None) -> None:
    assert read_window(config, model_type, block_count=3) == window


def test_mixed_windows_are_refused() -> None:
    config = {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}
    with pytest.raises(UnsupportedArchitectureError, match="Some blocks of the model attend to a sliding window"):
        read_window(config, "qwen2", block_count=3)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("add_cross_attention", "cross attention"),
        ("scale_attn_by_inverse_layer_idx", "dropping blocks"),
    ],
)
def test_gpt2_variants_are_refused(key: str, words: str) -> None:
    config = {"model_type": "gpt2", key: True}
    with pytest.raises(UnsupportedArchitectureError, match=words):
        family_for(config).shapes(config)


def test_phi3_packs_its_matrices_and_rotates_a_part() -> None:
    config = {**LLAMA, "model_type": "phi3", "partial_rotary_factor": 0.75}
    family = family_for(config)
    shapes = family.shapes(config)
    assert shapes.rotary_dim == 12
    tensors = family.tensors(shapes)
    assert tensors["layers.0.self_attn.qkv_proj.weight"] == (64 + 2 * 32, 64)
    assert tensors["layers.2.mlp.gate_up_proj.weight"] == (192, 64)
    assert "layers.0.self_attn.q_proj.weight" not in tensors


def test_longrope_means_the_positions_of_short_texts() -> None:
    rope = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    config = {**LLAMA, "model_type": "phi3", "max_position_embeddings": 131_072, "rope_scaling": rope}
    assert family_for(config).shapes(config).max_positions == 4096
    config["original_max_position_embeddings"] = 2048
    assert family_for(config).shapes(config).max_positions == 2048
    assert family_for(config).shapes({**config, "rope_scaling": None}).max_positions == 131_072


@pytest.mark.parametrize("listed", [[1, 0], [1, 0, 2], 3])
def test_a_malformed_list_of_blocks_without_rotation_is_named(listed: Any) -> None:
    config = {**LLAMA, "model_type": "smollm3", "no_rope_layers": listed}
    with pytest.raises(ModelError, match="no_rope_layers"):
        family_for(config).shapes(config)


def test_a_model_that_looks_both_ways_is_refused() -> None:
    config = {**LLAMA, "model_type": "gemma", "use_bidirectional_attention": True}
    with pytest.raises(UnsupportedArchitectureError, match="both directions"):
        family_for(config).shapes(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"do_layer_norm_before": False}, "behind attention and MLP"),
        ({"word_embed_proj_dim": 32}, "narrower than its blocks"),
        ({"_remove_final_layer_norm": True}, "without a norm before the head"),
        ({"layer_norm_elementwise_affine": False}, "norms have no gains"),
    ],
)
def test_opt_variants_are_refused(changes: dict[str, Any], words: str) -> None:
    config = {"model_type": "opt", **changes}
    with pytest.raises(UnsupportedArchitectureError, match=words):
        family_for(config).shapes(config)


GEMMA3 = {**LLAMA, "model_type": "gemma3_text"}


def test_gemma3_has_a_window_and_norms_on_both_sides_of_its_parts() -> None:
    shapes = family_for(GEMMA3).shapes(GEMMA3)
    assert shapes.sliding_window == 4096
    block = shapes.blocks[0]
    assert (block.norm_parameter_count, block.mlp_norm_parameter_count) == (4 * 64 + 2 * 256, 2 * 64)
    assert family_for(GEMMA3).shapes({**GEMMA3, "sliding_window": None}).sliding_window is None


@pytest.mark.parametrize("kind", ["full_attention", "sliding_attention"])
def test_scalings_of_either_kind_of_block_are_looked_at(kind: str) -> None:
    rope = {kind: {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}
    with pytest.raises(UnsupportedArchitectureError, match="'dynamic'"):
        family_for(GEMMA3).shapes({**GEMMA3, "rope_parameters": rope})
