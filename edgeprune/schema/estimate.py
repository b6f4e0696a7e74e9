"""`Cost`: what the predictor expects of one recipe on one device."""

from edgeprune.schema.base import Basis, Record

__all__ = ["Cost", "Estimate"]


class Estimate(Record, frozen=True, kw_only=True):
    """A predicted number with its range."""

    value: float | None
    """None when the profile lacks what the prediction needs."""
    low: float | None = None
    high: float | None = None
    basis: Basis = "estimated"


class Cost(Record, frozen=True, kw_only=True):
    """Predicted bytes and seconds of one edited model."""

    disk_bytes: int
    """Bundle without evaluation sets: graph, weights, tokenizer, configuration."""
    weights_bytes: int
    """Stored bytes of all tensors."""
    kv_cache_bytes: int
    activation_bytes: int
    resident_weights_bytes: Estimate
    """After the runtime has prepared the weights."""
    model_memory_bytes: Estimate
    """Peak over load, prefill and decode, floor not counted."""
    peak_rss_bytes: Estimate
    """Floor + model memory."""
    decode_s: Estimate
    """Seconds per token at the end of the context."""
    prefill_s: Estimate
    """Seconds for a prompt that leaves room for the decoded tokens."""
    parameter_count: int
    request_s: Estimate = Estimate(value=None)
    """Seconds for the prompt and the decoded tokens after it."""
    device_memory_bytes: Estimate = Estimate(value=None)
    """On the accelerator: what weights, KV cache and activations take, without the provider's own memory, which is not
    known; so it has no upper end. None where the profile has no accelerator."""
