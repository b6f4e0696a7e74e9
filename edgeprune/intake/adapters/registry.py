"""The adapter of a family."""

from edgeprune.errors import UnsupportedArchitectureError
from edgeprune.intake.adapters.base import Adapter
from edgeprune.intake.adapters.gemma import Gemma2Adapter, Gemma3Adapter, GemmaAdapter
from edgeprune.intake.adapters.gpt2 import GPT2Adapter
from edgeprune.intake.adapters.gpt_neox import GPTNeoXAdapter
from edgeprune.intake.adapters.llama import LlamaAdapter
from edgeprune.intake.adapters.opt import OPTAdapter
from edgeprune.intake.adapters.phi3 import Phi3Adapter
from edgeprune.intake.adapters.smollm3 import SmolLM3Adapter

__all__ = ["adapter_for"]

_ADAPTERS: dict[str, Adapter] = {
    adapter.family: adapter
    for adapter in (
        LlamaAdapter(),
        GPT2Adapter(),
        SmolLM3Adapter(),
        GemmaAdapter(),
        Phi3Adapter(),
        GPTNeoXAdapter(),
        OPTAdapter(),
        Gemma2Adapter(),
        Gemma3Adapter(),
    )
}


def adapter_for(family: str) -> Adapter:
    """The adapter for the family file of that name.

    Raises:
        UnsupportedArchitectureError: the family has shapes but no adapter.
    """
    adapter = _ADAPTERS.get(family)
    if adapter is None:
        raise UnsupportedArchitectureError(
            f"The family {family!r} has no adapter in edgeprune/intake/adapters; models of it can be planned, not "
            "compressed."
        )
    return adapter
