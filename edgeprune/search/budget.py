"""From what the user wrote to absolute limits.

Percentages: `--memory 60%` is the floor plus 60 % of what the dense model adds to it in float32; `--disk` is of the
source's weight files ("dense on disk"); `--latency`, `--first-token` and `--device-memory` are of the dense model's
time per token, time to first token and memory on the accelerator. The reserve is taken off the memory limit. With no
limit at all: at most 60 % of plain int8's bytes on disk and at most plain int8's peak memory.
"""

from edgeprune.errors import UsageError
from edgeprune.schema.budget import Budget, BudgetRequest, Limit
from edgeprune.schema.estimate import Cost
from edgeprune.units import format_bytes

__all__ = ["DEFAULT_DISK_FRACTION", "require_loss_limit", "resolve_budget"]

DEFAULT_DISK_FRACTION = 0.6


def resolve_budget(
    request: BudgetRequest, dense: Cost, plain_int8: Cost, floor_bytes: int | None, *, source_bytes: int | None = None
) -> Budget:
    """Absolute limits of a request; `source_bytes` None takes the dense bundle's bytes for disk percentages.

    Raises:
        UsageError: a percentage of something the profile does not tell, a reserve that leaves nothing, a limit on the
            memory of an accelerator that is not there, or an objective without a limit on the loss.
    """
    require_loss_limit(request)
    times = {"latency": dense.decode_s, "request": dense.request_s}
    if request.objective in times and times[request.objective].value is None:
        raise UsageError(
            f"--objective {request.objective} needs times, which this profile does not tell; profile the device with "
            "`edgeprune profile`."
        )
    sizes = (request.memory, request.device_memory, request.latency, request.first_token, request.disk)
    qualities = (request.max_loss, request.max_general_loss, request.min_accuracy)
    if all(limit is None for limit in (*sizes, *qualities)):
        peak = plain_int8.peak_rss_bytes.value
        return Budget(
            memory_bytes=None if peak is None else _less_reserve(round(peak), request.reserve_bytes),
            disk_bytes=int(DEFAULT_DISK_FRACTION * plain_int8.disk_bytes),
            reserve_bytes=request.reserve_bytes,
            origin="default",
        )
    if request.reserve_bytes and request.memory is None:
        raise UsageError("--reserve is taken off the memory limit, but no --memory is given; give both.")
    if request.device_memory is not None and dense.device_memory_bytes.value is None:
        raise UsageError(
            "--device-memory limits the memory of an accelerator, and this profile has none; leave the limit out, or "
            "profile a device with a GPU."
        )
    on_device = _resolve(request.device_memory, dense.device_memory_bytes.value, what="--device-memory")
    memory = _memory_bytes(request.memory, dense, floor_bytes)
    dense_disk = dense.disk_bytes if source_bytes is None else source_bytes
    disk = _resolve(request.disk, float(dense_disk), what="--disk")
    return Budget(
        memory_bytes=None if memory is None else _less_reserve(memory, request.reserve_bytes),
        device_memory_bytes=None if on_device is None else int(on_device),
        latency_s=_resolve(request.latency, dense.decode_s.value, what="--latency"),
        first_token_s=_resolve(request.first_token, dense.prefill_s.value, what="--first-token"),
        disk_bytes=None if disk is None else int(disk),
        max_loss=request.max_loss,
        max_general_loss=request.max_general_loss,
        min_accuracy=request.min_accuracy,
        reserve_bytes=request.reserve_bytes,
        memory_percent_of_dense=_percent(request.memory),
        latency_percent_of_dense=_percent(request.latency),
        device_memory_percent_of_dense=_percent(request.device_memory),
        first_token_percent_of_dense=_percent(request.first_token),
        objective=request.objective,
    )


def require_loss_limit(request: BudgetRequest) -> None:
    """Least memory or time is asked for at a given loss.

    Raises:
        UsageError: no loss is given.
    """
    if request.objective != "loss" and request.max_loss is None:
        raise UsageError(
            f"--objective {request.objective} needs --max-loss, or the worst recipe there is would be the best one; "
            "say how much may be lost, such as --max-loss 2%."
        )


def _percent(limit: Limit | None) -> float | None:
    return None if limit is None else limit.percent_of_dense


def _memory_bytes(limit: Limit | None, dense: Cost, floor_bytes: int | None) -> int | None:
    if limit is None:
        return None
    if limit.percent_of_dense is None:
        value = _resolve(limit, None, what="--memory")
        return None if value is None else int(value)
    added = dense.model_memory_bytes.value
    if floor_bytes is None or added is None:
        raise UsageError(
            "--memory as a percentage needs the device's floor, which this profile does not have; "
            "give an absolute size, or profile the device with `edgeprune profile`."
        )
    return int(floor_bytes + limit.percent_of_dense * added)


def _resolve(limit: Limit | None, dense_value: float | None, *, what: str) -> float | None:
    if limit is None:
        return None
    if limit.absolute is not None:
        return limit.absolute
    assert limit.percent_of_dense is not None  # a Limit has exactly one field
    if dense_value is None:
        raise UsageError(
            f"{what} as a percentage needs the dense model's value, which this profile cannot predict; "
            "give an absolute limit, or profile the device with `edgeprune profile`."
        )
    return limit.percent_of_dense * dense_value


def _less_reserve(memory_bytes: int, reserve_bytes: int) -> int:
    if reserve_bytes >= memory_bytes:
        raise UsageError(
            f"--reserve {format_bytes(reserve_bytes)} leaves nothing of the memory limit "
            f"{format_bytes(memory_bytes)}; lower the reserve or raise --memory."
        )
    return memory_bytes - reserve_bytes
