"""`fit`: the same prices as the search, limits judged three-valued, the best that fits first, unknown never zero."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from edgeprune.errors import ModelError, UsageError
from edgeprune.intake.catalogue import describe_entry, find_entry
from edgeprune.pipeline import fit_device
from edgeprune.pipeline.fit import ASSUMED_FLOOR_BYTES, fit_models, name_models
from edgeprune.pipeline.fit_device import FitDevice, device_for_fit, measure_briefly
from edgeprune.pipeline.fit_rows import PRECISIONS
from edgeprune.predict.cost import CostModel
from edgeprune.profile.host import read_cpu
from edgeprune.profile.store import load_profile, save_profile
from edgeprune.schema.budget import Budget, Workload
from edgeprune.schema.device import CpuInfo, DeviceProfile, Floor, KernelTime, MemoryInfo, RuntimeInfo
from edgeprune.schema.events import NullProgress
from edgeprune.schema.fit import FitModel, FitReport, FitRow
from edgeprune.search.baselines import plain_recipe
from tests.tiny import write_tiny_llama

FLOOR = Floor(peak_rss_bytes=55_000_000, anonymous_bytes=None)


def board(
    *, memory: int | None = 4_000_000_000, bandwidth: float | None = 10e9, floor: Floor | None = FLOOR
) -> FitDevice:
    """A device of which a data sheet tells this much."""
    profile = DeviceProfile(
        name="board",
        basis="datasheet",
        cpu=CpuInfo(
            model="a core",
            architecture="aarch64",
            physical_core_count=4,
            logical_core_count=4,
            usable_core_count=4,
            instruction_sets=(),
            caches=(),
        ),
        memory=MemoryInfo(total_bytes=memory, usable_bytes=None, available_bytes=None),
        peak_bandwidth_bytes_per_s=bandwidth,
        runtime=RuntimeInfo(onnxruntime_version=None, execution_providers=()),
        floor=floor,
    )
    return FitDevice(profile, True)


def timed(kernels: tuple[str, ...]) -> FitDevice:
    """The same with timed kernels: 1 ms and 2 ms for two sizes, one row."""
    times = tuple(
        KernelTime(
            kernel=kernel, rows=1, in_features=size, out_features=size, rank=None, is_cached=False, time_s=time_s
        )
        for kernel in kernels
        for size, time_s in ((1024, 1e-3), (2048, 2e-3))
    )
    return FitDevice(replace(board().profile, kernel_times=times), True)


def fit(names: tuple[str, ...], device: FitDevice, **limits: float) -> FitReport:
    return fit_models(name_models(names), device, budget=Budget(**limits))  # type: ignore[arg-type]


def row(model: FitModel, precision: str) -> FitRow:
    return next(row for row in model.rows if row.precision == precision)


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_prices_are_those_of_the_search(precision: str) -> None:
    device = board()
    model = fit(("SmolLM2-360M",), device).models[0]
    spec = describe_entry(find_entry("SmolLM2-360M")).spec
    assert spec is not None
    recipe = plain_recipe(spec, PRECISIONS[precision], context_tokens=512, seed=0)
    cost = CostModel(device.profile, spec, Workload(context_tokens=512)).cost(recipe)
    got = row(model, precision)
    assert (got.weights_bytes, got.disk_bytes) == (cost.weights_bytes, cost.disk_bytes)
    assert got.peak_rss_bytes == cost.peak_rss_bytes
    assert got.tokens_per_s.value == pytest.approx(1.0 / (cost.decode_s.value or 0.0))


def test_the_slow_end_of_a_time_is_the_low_end_of_a_speed() -> None:
    speed = row(fit(("gpt2",), board()).models[0], "int4").tokens_per_s
    assert speed.low is not None
    assert speed.value is not None
    assert speed.high is not None
    assert 0.0 < speed.low < speed.value < speed.high


def test_without_bandwidth_speeds_are_unknown_and_a_limit_on_them_is_not_met_by_anyone() -> None:
    device = board(memory=20_000_000_000, bandwidth=None)
    report = fit(("gpt2", "Llama-3.2-1B"), device, latency_s=10.0)
    assert report.verdict == "unmeasured"
    for model in report.models:
        for got in model.rows:
            assert (got.tokens_per_s.value, got.tokens_per_s.low, got.tokens_per_s.high) == (None, None, None)
            assert got.speed_basis is None
            assert got.prefill_s.value is None
            assert (got.fits, got.binding) == ("unmeasured", ("latency",))
    assert fit(("gpt2",), device).verdict == "met"  # memory alone can be told


def test_a_data_sheet_gives_rooflines_and_a_kernel_table_what_was_timed() -> None:
    assert {got.speed_basis for got in fit(("gpt2",), board()).models[0].rows} == {"roofline"}
    model = fit(("gpt2",), timed((PRECISIONS["int4"],))).models[0]
    assert row(model, "int4").speed_basis == "kernel_table"
    assert row(model, "int8").speed_basis is None
    assert row(model, "int8").tokens_per_s.value is None


def test_memory_decides_and_ranges_across_the_limit_are_called_close() -> None:
    model = fit(("gpt2-large",), board()).models[0]
    peak = row(model, "int4").peak_rss_bytes
    assert peak.low is not None
    assert peak.value is not None
    assert peak.high is not None
    assert peak.low < peak.value < peak.high
    cases = [
        (peak.high + 1, "met", False),
        (peak.value + 1, "met", True),
        (peak.value - 1, "not_met", True),
        (peak.low - 1, "not_met", False),
    ]
    for limit, fits, is_close in cases:
        got = row(fit(("gpt2-large",), board(), memory_bytes=int(limit)).models[0], "int4")
        assert (got.fits, got.is_close) == (fits, is_close)
        assert got.binding == (() if fits == "met" else ("memory",))


def test_the_largest_that_fits_comes_first_and_its_widest_precision_before_the_others() -> None:
    report = fit((), board(), memory_bytes=700_000_000)
    fitting = [model for model in report.models if model.fits == "met"]
    assert [model.fits for model in report.models] == sorted(
        (model.fits for model in report.models), key=["met", "unmeasured", "not_met"].index
    )
    counts = [model.parameter_count for model in fitting]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) > 3
    for model in fitting:
        assert model.rows[0].fits == "met"
        widths = [row.weights_bytes for row in model.rows if row.fits == "met"]
        assert widths == sorted(widths, reverse=True)


def test_no_names_mean_the_whole_catalogue_and_a_model_named_twice_comes_once() -> None:
    assert len(fit((), board()).models) > 30
    assert len(fit(("gpt2", "GPT2", "openai-community/gpt2"), board()).models) == 1


def test_what_cannot_be_exported_is_weighed_only() -> None:
    report = fit(("phi-2",), board(memory=2_000_000_000))
    model = report.models[0]
    assert not model.can_compress
    assert model.refusal is not None
    assert "'phi'" in model.refusal
    assert row(model, "int8").binding == ("memory",)
    assert row(model, "int8").fits == "not_met"  # 2.9 GB of weights alone
    assert row(model, "int4").fits == "unmeasured"  # 1.6 GB of weights, and nobody knows what else
    assert row(model, "int4").tokens_per_s.value is None
    assert report.verdict == "unmeasured"


def test_the_devices_own_memory_is_the_limit_and_the_reserve_comes_off_it() -> None:
    report = fit(("gpt2",), board(memory=1_000_000_000), reserve_bytes=200_000_000)
    assert (report.budget.memory_bytes, report.budget.origin) == (800_000_000, "device")
    with pytest.raises(UsageError, match="--reserve"):
        fit(("gpt2",), board(memory=1_000_000_000), reserve_bytes=1_000_000_000)


def test_unknown_memory_is_never_enough() -> None:
    report = fit(("gpt2",), board(memory=None))
    assert report.verdict == "unmeasured"
    assert report.models[0].rows[0].binding == ("memory",)
    assert any("--memory" in sentence for sentence in report.notes)


def test_an_unmeasured_floor_is_assumed_said_and_widens_the_range() -> None:
    measured = fit(("gpt2",), board(floor=Floor(peak_rss_bytes=ASSUMED_FLOOR_BYTES, anonymous_bytes=None)))
    assumed = fit(("gpt2",), board(floor=None))
    assert (assumed.floor_basis, measured.floor_basis) == ("estimated", "measured")
    assert any("assumed" in sentence for sentence in assumed.notes)
    assert not any("assumed" in sentence for sentence in measured.notes)
    narrow = row(measured.models[0], "int4").peak_rss_bytes
    wide = row(assumed.models[0], "int4").peak_rss_bytes
    assert wide.value == narrow.value
    assert wide.low == pytest.approx((narrow.low or 0.0) - ASSUMED_FLOOR_BYTES / 2)
    assert wide.high == pytest.approx((narrow.high or 0.0) + ASSUMED_FLOOR_BYTES / 2)


def test_a_context_beyond_the_positions_is_missed() -> None:
    models = name_models(("gpt2", "SmolLM2-135M"))
    report = fit_models(models, board(), budget=Budget(), context=4096)
    by_name = {model.name: model for model in report.models}
    assert by_name["gpt2"].fits == "not_met"
    assert by_name["gpt2"].context_tokens == 1024
    assert by_name["gpt2"].rows[0].binding == ("context",)
    assert by_name["SmolLM2-135M"].fits == "met"
    assert report.context_tokens == 4096


def test_disk_is_judged_exactly() -> None:
    disk = row(fit(("gpt2",), board()).models[0], "int4").disk_bytes
    assert disk is not None
    assert row(fit(("gpt2",), board(), disk_bytes=disk).models[0], "int4").fits == "met"
    missed = row(fit(("gpt2",), board(), disk_bytes=disk - 1).models[0], "int4")
    assert (missed.fits, missed.is_close, missed.binding) == ("not_met", False, ("disk",))


def test_precisions_are_those_asked_for() -> None:
    models = name_models(("gpt2",))
    report = fit_models(models, board(), budget=Budget(), precisions=("int4", "fp32"))
    assert [got.precision for got in report.models[0].rows] == ["fp32", "int4"]
    with pytest.raises(UsageError, match="int3"):
        fit_models(models, board(), budget=Budget(), precisions=("int3",))


def test_a_folder_with_a_configuration_alone_is_enough(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "gpt2")
    (folder / "model.safetensors").unlink()
    described, hub_id = name_models((str(folder),))[0]
    assert (described.name, described.model_type, hub_id) == ("gpt2", "llama", None)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json"):
        name_models((str(folder),))


def test_a_saved_profile_of_this_machine_is_taken_the_newest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    here = replace(board().profile, basis="measured", cpu=read_cpu())
    save_profile(replace(here, name="old", created_at="2026-01-01T00:00:00+00:00"), "a")
    save_profile(replace(here, name="new", created_at="2026-02-01T00:00:00+00:00"), "b")
    save_profile(replace(board().profile, basis="measured", created_at="2026-03-01T00:00:00+00:00"), "elsewhere")
    assert device_for_fit(None, progress=NullProgress()) == FitDevice(load_profile("b"), True)


def test_without_a_saved_one_memory_bandwidth_and_floor_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    device = device_for_fit(None, progress=NullProgress())
    assert not device.is_saved
    profile = device.profile
    assert profile.floor is not None
    assert 20e6 < profile.floor.peak_rss_bytes < 400e6
    assert (profile.bandwidth[0].read_best_bytes_per_s or 0.0) > 1e8
    assert profile.kernel_times == ()
    assert profile.memory.usable_bytes is not None
    report = fit(("gpt2",), device)
    assert report.models[0].rows[0].speed_basis == "roofline"
    assert any("kernels were not timed" in sentence for sentence in report.notes)


def test_without_onnxruntime_the_floor_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = RuntimeInfo(onnxruntime_version=None, execution_providers=())
    monkeypatch.setattr(fit_device, "runtime_info", lambda: nothing)
    assert measure_briefly(progress=NullProgress()).floor is None
