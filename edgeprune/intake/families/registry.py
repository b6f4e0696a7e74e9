"""The list of families, and the sentence a user reads when none fits."""

import difflib
from typing import Any

from edgeprune.errors import ModelError, UnsupportedArchitectureError
from edgeprune.intake.families.base import Family
from edgeprune.intake.families.gemma import GEMMA, GEMMA2, GEMMA3
from edgeprune.intake.families.gpt2 import GPT2
from edgeprune.intake.families.gpt_neox import GPT_NEOX
from edgeprune.intake.families.llama import LLAMA
from edgeprune.intake.families.opt import OPT
from edgeprune.intake.families.phi3 import PHI3
from edgeprune.intake.families.refused import REFUSED
from edgeprune.intake.families.smollm3 import SMOLLM3
from edgeprune.schema.doctor import FamilyStatus

__all__ = ["describe_families", "family_for"]

_FAMILIES: tuple[Family, ...] = (LLAMA, GPT2, SMOLLM3, GEMMA, PHI3, GPT_NEOX, OPT, GEMMA3, GEMMA2)

_HOW_TO_ADD = "to add one, write a file in edgeprune/intake/families and an adapter, see the README"

# Fields that only experts, encoder-decoders and quantised checkpoints carry: they tell an unknown type apart.
_EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size")


def family_for(config: dict[str, Any]) -> Family:
    """The family that reads this configuration.

    Raises:
        ModelError: config.json names no `model_type`.
        UnsupportedArchitectureError: no family reads it; the message says why, names the nearest supported type and
            how to add a family.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise ModelError("config.json names no model_type; it is not the configuration of a Hugging Face model.")
    _refuse_sparse(config)
    _refuse_quantized(config)
    for family in _FAMILIES:
        if model_type in family.model_types:
            _check_task(config, model_type)
            return family
    reason = REFUSED.get(model_type) or _guess(config)
    raise UnsupportedArchitectureError(
        f"The architecture {model_type!r} is not supported: it is {reason}. The nearest supported one is "
        f"{_nearest(model_type)!r}; {_HOW_TO_ADD}."
    )


def describe_families() -> list[FamilyStatus]:
    """Every known `model_type`, the supported ones first."""
    supported = [
        FamilyStatus(
            model_type=model_type,
            status="supported",
            family=family.name,
            reason=family.engine_reason,
            engine=family.engine,
        )
        for family in _FAMILIES
        for model_type in family.model_types
    ]
    refused = [
        FamilyStatus(model_type=model_type, status="refused", family=None, reason=reason)
        for model_type, reason in sorted(REFUSED.items())
    ]
    return supported + refused


def _supported_types() -> list[str]:
    return [model_type for family in _FAMILIES for model_type in family.model_types]


def _nearest(model_type: str) -> str:
    """The supported type with the most similar name; Llama, the most common shape, when none is similar."""
    matches = difflib.get_close_matches(model_type.lower(), _supported_types(), n=1, cutoff=0.4)
    return matches[0] if matches else "llama"


def _guess(config: dict[str, Any]) -> str:
    """What an unknown type seems to be, from fields that tell."""
    if config.get("is_encoder_decoder") is True:
        return "an encoder-decoder; only decoder-only models are supported"
    if any(config.get(key) for key in _EXPERT_KEYS):
        return "a mixture of experts; the exported graph would run every expert for every token"
    if config.get("vision_config") or config.get("audio_config"):
        return "a model of images or sound as well as text; only text decoders are supported"
    return "unknown to this version"


def _refuse_sparse(config: dict[str, Any]) -> None:
    """2:4 checkpoints as compressed-tensors writes them; its files hold masks or packed values, not matrices."""
    for key in ("quantization_config", "compression_config"):
        written = config.get(key)
        sparsity = written.get("sparsity_config") if isinstance(written, dict) else None
        if isinstance(sparsity, dict) and sparsity.get("format", "dense") != "dense":
            structure = sparsity.get("sparsity_structure") or sparsity["format"]
            raise UnsupportedArchitectureError(
                f"The checkpoint is stored sparse ({structure} in config.json); no kernel of onnxruntime on a CPU "
                "skips zeros, so a zero would cost as much as any other weight; take the dense release of the same "
                "model."
            )


def _refuse_quantized(config: dict[str, Any]) -> None:
    quantization = config.get("quantization_config") or config.get("compression_config")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        raise UnsupportedArchitectureError(
            f"The checkpoint is already quantised ({method or 'quantization_config'} in config.json), so what was "
            "rounded away cannot be measured; take the float16, bfloat16 or float32 release of the same model."
        )


def _check_task(config: dict[str, Any], model_type: str) -> None:
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(name, str) for name in architectures):
        raise ModelError("config.json: architectures is not a list of names; the file is malformed.")
    if architectures and not architectures[0].endswith(("ForCausalLM", "LMHeadModel")):
        raise UnsupportedArchitectureError(
            f"{architectures[0]} ({model_type}) has no language-model head, so it does not generate text; take the "
            "ForCausalLM release of the model."
        )
    if any(config.get(key) for key in _EXPERT_KEYS):
        raise UnsupportedArchitectureError(
            f"The {model_type} configuration names experts; mixtures of experts are not supported, because the "
            "exported graph would run every expert for every token."
        )
