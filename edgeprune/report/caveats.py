"""What a reader must know beside the table: notes on how numbers came about, and limits of what they show."""

from edgeprune.runtime.huge_pages import TUNABLES
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.measurement import BundleMeasurement, ValidationReport
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.scores import Scores
from edgeprune.units import format_bytes, format_fraction

__all__ = ["limits", "notes"]

FEW_QUESTIONS = 200
"""Below this many questions a 95 % interval is wider than about seven points either way."""


def notes(
    search_result: SearchResult,
    validation: ValidationReport,
    dense_spec: ModelSpec,
    scores: Scores,
    device: DeviceProfile,
    *,
    is_edited: bool,
) -> tuple[str, ...]:
    """How the numbers came about; one sentence each."""
    found = [] if validation.better_plain is None else [validation.better_plain]
    dense = next((entry for entry in validation.measurements if entry.label == "dense"), None)
    source = f"Dense on disk is the source's {dense_spec.source_dtype} weight files"
    if dense is not None:
        source += f"; as a float32 ONNX bundle, which is what runs, it takes {format_bytes(dense.disk_bytes)}"
    found.append(f"{source}.")
    chosen = search_result.chosen
    if chosen is not None and chosen.optimality_gap is not None:
        found.append(
            f"The search proved its choice within {chosen.optimality_gap:.2%} of the best it could predict "
            f"({chosen.basis})."
        )
    if is_edited:
        found.append("The measured recipe is not the one the search chose, so it has no predictions beside it.")
    if validation.device_name != device.name:
        found.append(f"Predictions are for {device.name}; measurements were made on {validation.device_name}.")
    if validation.emulation is not None:
        found.append(
            f"The device was {validation.emulation.text}; caches, memory bandwidth and disk were those of the machine "
            "it was emulated on."
        )
        if device.emulation is None or device.emulation.core_count != validation.emulation.core_count:
            found.append("Predictions are for another number of cores than was emulated while measuring.")
    recipe = _recipe(validation)
    if recipe is not None and recipe.huge_page_bytes:
        found.append(
            f"While tokens were timed, {format_bytes(recipe.huge_page_bytes)} of memory were in huge pages, as in all "
            f"sessions EdgePrune opens; a program of yours gets them from glibc 2.35 on with {TUNABLES} in its "
            "environment, and may be slower without."
        )
    found += [f"{entry.label}: {failure}" for entry in validation.measurements for failure in entry.failures]
    for when, conditions in (("before", validation.conditions_before), ("after", validation.conditions_after)):
        if conditions is not None and conditions.is_throttled:
            found.append(f"The processor was throttled {when} the measurements.")
    return (*found, *scores.notes, *device.notes)


def limits(search_result: SearchResult, validation: ValidationReport, device: DeviceProfile) -> tuple[str, ...]:
    """What the report does not show; one sentence each."""
    found = [
        f"Memory and time are of one process with one sequence of {search_result.context_tokens} tokens; "
        "several at once, energy and long-running heat were not measured."
    ]
    recipe = _recipe(validation)
    if recipe is not None:
        found += [
            f"Bits-per-byte on {text.name} text is over {text.scored_bytes:,} bytes; "
            "other text of the same kind may differ."
            for text in recipe.texts
        ]
        found += [
            f"Accuracy on {entry.name} is over {entry.question_count} questions: "
            f"the 95 % interval spans {format_fraction(entry.low)} to {format_fraction(entry.high)}."
            for entry in recipe.accuracy
            if entry.question_count < FEW_QUESTIONS
        ]
        if not recipe.accuracy:
            found.append("No questions were given, so nothing is known of accuracy.")
        if not recipe.texts:
            found.append("No evaluation text was measured, so nothing is known of quality.")
    if device.is_quick:
        found.append("The device was profiled with --quick: fewer shapes were timed, predictions are coarser.")
    if device.basis != "measured":
        found.append(f"{device.name} is known from data sheets only, so its predictions are wide estimates.")
    found.append("Predicted losses add up single edits scored on calibration text; interactions are not in them.")
    return tuple(found)


def _recipe(validation: ValidationReport) -> BundleMeasurement | None:
    return next((entry for entry in validation.measurements if entry.label == "recipe"), None)
