"""Compares our reading of a model with optimum's: two independent readers must agree before anything is measured.

optimum's `NormalizedConfigManager` names sizes the same way for every type it knows, `TasksManager` infers the task
from the model class. A type optimum does not know is no error; a disagreement is.
"""

from typing import Any

from edgeprune.errors import ModelError, UnsupportedArchitectureError
from edgeprune.schema.model import ModelSpec

__all__ = ["TASK", "check_against_optimum"]

TASK = "text-generation"


def check_against_optimum(model: Any, spec: ModelSpec) -> None:
    """Compare sizes and task of a loaded `PreTrainedModel` with the spec read from its files.

    Raises:
        ModelError: a size differs; the message names both numbers.
        UnsupportedArchitectureError: optimum infers another task than text generation.
    """
    # Deferred: importing optimum's task manager takes 0.3 s and needs the `compress` extra.
    from optimum.exporters.tasks import TasksManager
    from optimum.utils import NormalizedConfigManager

    try:
        task = TasksManager.infer_task_from_model(model)
    except ValueError:
        task = TASK  # a class that optimum does not list
    if task not in (TASK, f"{TASK}-with-past"):
        raise UnsupportedArchitectureError(
            f"{type(model).__name__} is a model for {task}, not for {TASK}; take the ForCausalLM release of the model."
        )
    try:
        normalized = NormalizedConfigManager.get_normalized_config_class(spec.model_type)(model.config)
    except KeyError:
        return  # a type that optimum does not know
    for field, ours in _sizes(spec).items():
        if not normalized.has_attribute(field):
            continue
        theirs = getattr(normalized, field)
        if theirs != ours:
            raise ModelError(
                f"config.json was read as {field} {ours}, but optimum reads {theirs}; the configuration is ambiguous, "
                "download the model again or report it."
            )


def _sizes(spec: ModelSpec) -> dict[str, int]:
    block = spec.blocks[0]
    return {
        "hidden_size": spec.hidden_size,
        "num_layers": len(spec.blocks),
        "num_attention_heads": block.num_heads,
        "num_key_value_heads": block.num_kv_heads,
        "vocab_size": spec.vocab_size,
    }
