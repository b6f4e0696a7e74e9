"""What the screens are made of: figures with their records, drafts, plots on any glyphs, terminals."""

import math
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from edgeprune.errors import UsageError
from edgeprune.schema.budget import Limit
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.lock import Lock
from edgeprune.schema.measurement import ValidationReport
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.run import RunManifest
from edgeprune.tui.canvas import Axis, Canvas, ticks
from edgeprune.tui.draft import budget_request, context_of, draft_of, run_job
from edgeprune.tui.heat import heat_of, locks_for, toggled
from edgeprune.tui.run_plots import FRONT_AXES, front_plot, latency_plot
from edgeprune.tui.shelf import list_models
from edgeprune.tui.sourced import Source
from edgeprune.tui.terminal import Looks, look_at
from edgeprune.tui.view_state import Draft
from tests.tui.replay import recorded


@pytest.fixture(scope="module")
def front() -> SearchResult:
    return msgspec.json.decode(recorded("run/front.json"), type=SearchResult)


def test_a_figure_is_read_from_its_record_and_says_so(front: SearchResult) -> None:
    figure = Source("front.json", front).take("chosen.cost.disk_bytes", "bytes")
    assert front.chosen is not None
    assert figure.value == front.chosen.cost.disk_bytes
    assert figure.text == "2.40 MB"
    assert figure.origin == "2.40 MB  <-  front.json : chosen.cost.disk_bytes"


def test_what_a_record_does_not_have_is_missing_and_never_zero(front: SearchResult) -> None:
    nothing = Source("front.json", None).take("chosen.cost.disk_bytes", "bytes")
    assert nothing.value is None
    assert nothing.text == "n/a"
    assert Source("front.json", front).take("front[999].cost.disk_bytes", "bytes").text == "n/a"


def test_a_field_that_no_record_has_is_a_mistake_of_ours(front: SearchResult) -> None:
    with pytest.raises(AttributeError):
        Source("front.json", front).take("chosen.cost.dsk_bytes", "bytes")


def test_limits_are_read_as_the_command_line_reads_them() -> None:
    draft = Draft(limits=(("memory", "60%"), ("disk", "2.4MB"), ("latency", "12ms"), ("max_loss", "2%")))
    request = budget_request(draft)
    assert request.memory == Limit(percent_of_dense=0.6)
    assert request.disk == Limit(absolute=2_400_000)
    assert request.latency == Limit(absolute=0.012)
    assert request.max_loss == 0.02


@pytest.mark.parametrize(
    ("quantity", "text"), [("disk", "2.4"), ("disk", "0MB"), ("latency", "12 parsecs"), ("max_loss", "x")]
)
def test_a_limit_that_cannot_be_read_is_refused_with_its_text(quantity: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        budget_request(Draft(limits=((quantity, text),)))


def test_a_context_is_a_whole_number() -> None:
    assert context_of(Draft()) is None
    assert context_of(Draft(context="256")) == 256
    with pytest.raises(UsageError, match="0"):
        context_of(Draft(context="0"))


def test_a_draft_of_a_recorded_request_asks_for_the_same_again() -> None:
    request = msgspec.json.decode(recorded("run/manifest.json"), type=RunManifest).request
    again = run_job(draft_of(request)).request
    assert again.budget == request.budget
    assert again.evaluations == request.evaluations
    assert [Path(path).name for path in again.domain] == [Path(path).name for path in request.domain]


def test_a_draft_keeps_the_form_of_the_run_it_came_from() -> None:
    request = msgspec.json.decode(recorded("run/manifest.json"), type=RunManifest).request
    assert (request.kv_bits, request.rounding, request.uniform_kv) == (32, "gptq", False)
    other = replace(request, kv_bits=8, rounding="nearest", uniform_kv=True)
    again = run_job(draft_of(other)).request
    assert (again.kv_bits, again.rounding, again.uniform_kv) == (8, "nearest", True)


def test_a_model_without_texts_of_its_domain_is_refused() -> None:
    with pytest.raises(UsageError, match="domain 'law'"):
        run_job(Draft(model="org/name", is_model_chosen=True, domain="law"))


@pytest.mark.parametrize(
    ("glyphs", "allowed"), [("ascii", range(0x20, 0x7F)), ("block", [0x20, 0x2580, 0x2584, 0x2588])]
)
def test_a_plain_terminal_gets_plain_glyphs(glyphs: str, allowed: range | list[int]) -> None:
    canvas = Canvas(20, 6, glyphs)  # type: ignore[arg-type]
    canvas.line([(0.0, 0.0), (0.5, 1.0), (1.0, 0.2)])
    drawn = {character for row in canvas.rows() for character, _ in row}
    assert len(drawn) > 1
    assert all(ord(character) in allowed for character in drawn)


def test_a_rising_line_rises_and_a_mark_lies_over_it() -> None:
    canvas = Canvas(10, 10, "ascii")
    canvas.line([(0.0, 0.0), (1.0, 1.0)])
    canvas.mark(1.0, 1.0, "@")
    rows = ["".join(character for character, _ in row) for row in canvas.rows()]
    assert rows[0][9] == "@"
    assert rows[9][0] == "."
    assert [row.index(next(c for c in row if c != " ")) for row in rows] == list(range(9, -1, -1))


def test_ticks_are_round_and_inside() -> None:
    linear = ticks(Axis(0.0, 104.0, lambda value: f"{value:g}"))
    assert [text for _, text in linear] == ["0", "50", "100"]
    assert all(0.0 <= share <= 1.0 for share, _ in linear)
    steps = ticks(Axis(1.0, 100.0, lambda value: f"{value:g}", scale=math.log, tick_values=(0.1, 1.0, 10.0, 100.0)))
    assert steps == [(0.0, "1"), (0.5, "10"), (1.0, "100")]


@pytest.mark.parametrize(
    ("environ", "glyphs", "theme"),
    [
        ({"TERM": "xterm-256color", "LANG": "en_US.UTF-8"}, "braille", "edgeprune-dark"),
        ({"TERM": "linux", "LANG": "en_US.UTF-8"}, "block", "edgeprune-console"),
        ({"TERM": "linux", "LANG": "C"}, "ascii", "edgeprune-console"),
        ({"TERM": "xterm", "LANG": "de_DE.ISO-8859-1"}, "ascii", "edgeprune-dark"),
        ({"TERM": "xterm-256color", "LANG": "C.UTF-8", "COLORFGBG": "0;15"}, "braille", "edgeprune-light"),
        ({"TERM": "linux", "LANG": "C.UTF-8", "EDGEPRUNE_THEME": "light"}, "block", "edgeprune-light"),
    ],
)
def test_the_environment_tells_glyphs_and_theme(environ: dict[str, str], glyphs: str, theme: str) -> None:
    looks = look_at(environ)
    assert (looks.glyphs, looks.theme) == (glyphs, theme)


def test_motion_and_colour_are_given_up_where_they_are_not_wanted() -> None:
    assert look_at({"TERM": "xterm"}).has_motion
    for variable in ("EDGEPRUNE_REDUCED_MOTION", "SSH_CONNECTION"):
        assert not look_at({"TERM": "xterm", variable: "1"}).has_motion
    assert not look_at({"TERM": "xterm", "TEXTUAL_ANIMATIONS": "none"}).has_motion
    assert not look_at({"TERM": "xterm", "NO_COLOR": "1"}).has_colour


def test_marks_differ_by_shape_in_every_set_of_glyphs() -> None:
    for glyphs in ("braille", "block", "ascii"):
        marks = Looks(glyphs=glyphs).marks  # type: ignore[arg-type]
        assert len({marks[name] for name in ("met", "not_met", "unmeasured")}) == 3
        assert len({marks[name] for name in ("chosen", "front", "plain")}) == 3


def test_the_map_tells_removed_sites_from_narrow_ones(front: SearchResult) -> None:
    spec = msgspec.json.decode(recorded("run/model.json"), type=ModelSpec)
    assert front.chosen is not None
    heat = heat_of(spec, front.chosen.recipe)
    assert heat is not None
    assert len(heat.blocks) == len(spec.blocks)
    narrowed = {entry.block: entry.kept_count for entry in front.chosen.recipe.keep_channels}
    dense = {block.index: block.intermediate_size for block in spec.blocks}
    gate = heat.cells[heat.roles.index("gate")]
    for block, cell in zip(heat.blocks, gate, strict=True):
        assert cell.kept_fraction <= narrowed.get(block, dense[block]) / dense[block] + 1e-9
    gone = heat_of(spec, msgspec.structs.replace(front.dense.recipe, drop_blocks=(3,)))
    assert gone is not None
    assert {row[3].bits for row in gone.cells} == {None}
    assert all(cell.kept_fraction == 1.0 for row in gone.cells for cell in row if cell.bits is not None)


def test_a_lock_holds_what_the_recipe_has_and_goes_again(front: SearchResult) -> None:
    assert front.chosen is not None
    recipe = front.chosen.recipe
    held = toggled((), "blocks.0.q", recipe)
    assert held == locks_for(recipe, "blocks.0.q")
    edit = next(entry for entry in recipe.sites if entry.name == "blocks.0.q")
    assert Lock(pattern="blocks.0.q", action=edit.kernel) in held
    assert toggled(held, "blocks.0.q", recipe) == ()
    assert toggled((), "block.2", recipe) == (Lock(pattern="block.2", action="keep"),)


def test_the_front_is_drawn_with_its_choice_and_its_limit(front: SearchResult) -> None:
    data = front_plot(Source("front.json", front), FRONT_AXES[0], Looks())
    assert data is not None
    assert front.chosen is not None
    assert (front.chosen.cost.disk_bytes, front.chosen.relative_loss) in [(mark.x, mark.y) for mark in data.marks]
    wall = data.lines[-1]
    assert {x for x, _ in wall} == {float(front.budget.disk_bytes or 0)}
    assert front_plot(Source("front.json", None), FRONT_AXES[0], Looks()) is None


def test_a_histogram_has_its_highest_bar_where_most_tokens_are() -> None:
    report = msgspec.json.decode(recorded("run/validation.json"), type=ValidationReport)
    data = latency_plot(Source("validation.json", report), 0, str)
    assert data is not None
    (x, _), (_, top) = max(data.lines, key=lambda line: line[1][1])
    samples = [sample for process in report.measurements[0].decode for sample in process.samples_s]
    width = (data.x.high - data.x.low) / 40
    assert sum(abs(sample - x) <= width for sample in samples) >= top
    assert latency_plot(Source("validation.json", report), 99, str) is None


def test_cached_models_are_listed_and_half_downloaded_ones_are_not(tmp_path: Path) -> None:
    whole = tmp_path / "models--org--small" / "snapshots" / "abc"
    part = tmp_path / "models--org--part" / "snapshots" / "abc"
    for folder in (whole, part):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    (whole / "model.safetensors").write_bytes(b"x" * 100)
    found = list_models(tmp_path, tmp_path)
    assert [(entry.name, entry.size_bytes) for entry in found] == [("", None), ("org/small", 100)]
