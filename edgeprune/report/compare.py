"""`build_report`: predictions beside measurements, for the dense model, plain int8, plain int4 and the recipe.

Takes the search's result, the validation's measurements and the shapes before and after; gives a `RunReport` whose
every number says where it comes from. A quantity that was not measured shows its prediction, marked as estimated; one
that was neither stays empty.
"""

from msgspec.structs import replace

from edgeprune.report.blocks import block_rows, vocabulary_text
from edgeprune.report.caveats import limits, notes
from edgeprune.report.forgotten import forgotten
from edgeprune.schema.base import Basis
from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.estimate import Cost
from edgeprune.schema.measurement import BundleMeasurement, ValidationReport
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.report import Quantity, ReportRow, RunReport
from edgeprune.schema.scores import ScoreArrays, Scores
from edgeprune.shapes import edit_shapes

__all__ = ["LABELS", "build_report"]

LABELS = ("dense", "int8", "int4", "recipe")

_QUANTITIES = (
    ("disk_bytes", "bytes"),
    ("weights_bytes", "bytes"),
    ("peak_rss_bytes", "bytes"),
    ("model_memory_bytes", "bytes"),
    ("load_time_s", "s"),
    ("prefill_s", "s"),
    ("time_to_first_token_s", "s"),
    ("decode_s", "s"),
    ("decode_p95_s", "s"),
)


def build_report(
    search_result: SearchResult,
    validation: ValidationReport,
    dense_spec: ModelSpec,
    edited_spec: ModelSpec,
    scores: Scores,
    device: DeviceProfile,
    versions: dict[str, str],
    created_at: str,
    recipe: Recipe | None = None,
    arrays: ScoreArrays | None = None,
) -> RunReport:
    """Everything a reader of the run needs.

    Args:
        search_result: the front, the choice and its predictions.
        validation: what was measured; the chosen recipe is labelled `recipe`.
        dense_spec: shapes before the recipe.
        edited_spec: shapes of the bundle that was measured.
        scores: for the calibration's summary.
        device: the profile predictions were made with.
        versions: tool and library versions.
        created_at: UTC time in ISO 8601.
        recipe: what was measured; None leaves out what it forgot.
        arrays: beside the scores.
    """
    chosen = search_result.chosen
    is_edited = chosen is None or edit_shapes(dense_spec, chosen.recipe) != edited_spec
    predictions: dict[str, Candidate] = {"dense": search_result.dense}
    predictions |= {entry.label: entry for entry in search_result.baselines}
    if chosen is not None and not is_edited:
        predictions["recipe"] = chosen
    measured = {entry.label: entry for entry in validation.measurements}
    emulated = validation.emulation
    dense_bits = _bits_per_byte(measured.get("dense"))
    rows = tuple(
        _row(label, measured.get(label), predictions.get(label), dense_spec, dense_bits)
        for label in LABELS
        if label in measured or label in predictions
    )
    return RunReport(
        verdict=validation.verdict,
        checks=validation.checks,
        model_name=dense_spec.name,
        model_hash=dense_spec.model_hash,
        license=dense_spec.license,
        device_name=device.name if emulated is None else f"{device.name} ({emulated.text})",
        budget=validation.budget,
        context_tokens=search_result.context_tokens,
        rows=rows,
        blocks=block_rows(dense_spec, edited_spec),
        vocabulary=vocabulary_text(dense_spec, edited_spec),
        search=search_result,
        validation=validation,
        calibration=scores.calibration,
        forgotten=None if recipe is None else forgotten(validation, dense_spec, recipe, scores, arrays or {}),
        notes=notes(search_result, validation, dense_spec, scores, device, is_edited=is_edited),
        limits=limits(search_result, validation, device),
        created_at=created_at,
        versions=versions,
    )


def _row(
    label: str,
    measured: BundleMeasurement | None,
    predicted: Candidate | None,
    dense_spec: ModelSpec,
    dense_bits: dict[str, float],
) -> ReportRow:
    seen = {} if measured is None else _measured(measured)
    expected = {} if predicted is None else _predicted(predicted.cost)
    found = []
    for name, unit in _QUANTITIES:
        if label == "dense" and name == "disk_bytes":
            # "Dense on disk" is what the user has, the source's weight files; the float32 bundle made of them stands
            # beside it.
            found.append(Quantity(name=name, value=float(dense_spec.source_bytes), unit=unit, basis="config"))
            found.append(_quantity("bundle_bytes", unit, seen.get(name), expected.get(name)))
        else:
            found.append(_quantity(name, unit, seen.get(name), expected.get(name)))
    if measured is not None and measured.energy is not None:
        found.append(_quantity("decode_j", "J", measured.energy.token_j, None))
    for name, bits in _texts(measured, predicted, dense_bits).items():
        found.append(_quantity(f"bits_per_byte.{name}", "bits", *bits))
    for accuracy in () if measured is None else measured.accuracy:
        expected_accuracy = None if predicted is None else predicted.accuracy
        entry = _quantity(f"accuracy.{accuracy.name}", "fraction", accuracy.accuracy, expected_accuracy)
        found.append(replace(entry, low=accuracy.low, high=accuracy.high))
    if predicted is not None:
        count = float(predicted.cost.parameter_count)
        found.append(Quantity(name="parameter_count", value=count, unit="parameters", basis="config"))
    return ReportRow(label=label, quantities=tuple(found))


def _measured(entry: BundleMeasurement) -> dict[str, float | None]:
    return {
        "disk_bytes": entry.disk_bytes,
        "weights_bytes": entry.weights_bytes,
        "peak_rss_bytes": entry.peak_rss_bytes,
        "model_memory_bytes": entry.model_memory_bytes,
        "load_time_s": entry.load_time_s,
        "prefill_s": None if entry.prefill is None else entry.prefill.median_s,
        "time_to_first_token_s": entry.time_to_first_token_s,
        "decode_s": entry.decode_s,
        "decode_p95_s": _p95(entry),
    }


def _predicted(cost: Cost) -> dict[str, float | None]:
    return {
        "disk_bytes": cost.disk_bytes,
        "weights_bytes": cost.weights_bytes,
        "peak_rss_bytes": cost.peak_rss_bytes.value,
        "model_memory_bytes": cost.model_memory_bytes.value,
        "prefill_s": cost.prefill_s.value,
        "time_to_first_token_s": cost.prefill_s.value,
        "decode_s": cost.decode_s.value,
    }


def _texts(
    measured: BundleMeasurement | None, predicted: Candidate | None, dense_bits: dict[str, float]
) -> dict[str, tuple[float | None, float | None]]:
    """Name -> measured and predicted bits-per-byte; predicted for the texts losses were scored on."""
    found: dict[str, tuple[float | None, float | None]] = {}
    for name in dict.fromkeys([*dense_bits, *_bits_per_byte(measured)]):
        expected = None
        if predicted is not None and predicted.label != "dense" and name in dense_bits:
            rise = {"domain": predicted.relative_loss, "general": predicted.general_relative_loss}.get(name)
            expected = None if rise is None else dense_bits[name] * (1.0 + rise)
        found[name] = (_bits_per_byte(measured).get(name), expected)
    return found


def _bits_per_byte(measured: BundleMeasurement | None) -> dict[str, float]:
    return {} if measured is None else {text.name: text.bits_per_byte for text in measured.texts}


def _p95(measured: BundleMeasurement) -> float | None:
    """95th percentile of the process with the lowest median, the one the latency verdict is made of."""
    if not measured.decode:
        return None
    return min(measured.decode, key=lambda samples: samples.median_s).p95_s


def _quantity(name: str, unit: str, measured: float | None, predicted: float | None) -> Quantity:
    """Measured where it was, otherwise the prediction marked as such."""
    basis: Basis = "measured" if measured is not None else "estimated"
    error = None
    if measured is not None and predicted is not None and measured != 0.0:
        error = (predicted - measured) / measured
    return Quantity(
        name=name,
        value=float(measured) if measured is not None else predicted,
        unit=unit,
        basis=basis,
        predicted=predicted,
        relative_error=error,
    )
