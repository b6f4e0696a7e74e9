"""Bundle: the exported files with sizes and hashes, and the compressed model beside the dense one, in words."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Label, Static

from edgeprune.schema.bundle import BundleManifest
from edgeprune.schema.generation import GeneratedText, Sampling
from edgeprune.schema.jobs import GenerateJob
from edgeprune.tui import messages as told
from edgeprune.tui.screens.base import EdgeScreen, panel
from edgeprune.tui.sourced import Source, Sourced
from edgeprune.tui.view_state import View, source
from edgeprune.tui.widgets.field import Field
from edgeprune.tui.widgets.figure import FigureLine, FigureList
from edgeprune.tui.widgets.figure_table import Column, FigureTable, Row

__all__ = ["BundleScreen"]

_FILES = (Column("file", is_text=True), Column("size"), Column("sha256", is_text=True))
_FOLDERS = {"recipe": "bundle", "dense": "baselines/dense"}
"""Label of a bundle -> its folder in the run."""
_MOST_TOKENS = 48


class Conversation(Static):
    """Questions and both answers; remembers the figures it shows."""

    figures: tuple[Sourced, ...] = ()

    def origins(self) -> list[Sourced]:
        """Speed figures of the answers."""
        return list(self.figures)


class BundleScreen(EdgeScreen):
    """Files above, chat below."""

    name_of_screen: ClassVar[str] = "bundle"
    title_text: ClassVar[str] = "Bundle"
    help_text: ClassVar[str] = (
        "The folder that goes to the device: its files are listed with the sizes and hashes of its manifest. t types a "
        "text that the compressed model and the dense one go on from, side by side; each answer is a job of its own, "
        "so the times are those of a fresh process."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "type", "Talk to it"),
        Binding("y", "copy_path", "Where it is"),
    ]

    def body(self) -> Iterable[Widget]:
        """Two panels above, the chat below."""
        with Horizontal(classes="row", id="bundle-upper"):
            about = "Every file of the bundle but its manifest, with the hash that validation checks it against."
            yield panel(
                "Files", FigureTable(id="files", help_text=about, can_choose=False), id="file-panel", classes="fill"
            )
            yield panel("What it is", FigureList(id="facts"), id="fact-panel", classes="right wide-only")
        scroll = VerticalScroll(Conversation(id="conversation", markup=False), can_focus=True, id="chat-scroll")
        with Horizontal(classes="row", id="prompt-row") as row:
            row.styles.height = 1
            yield Label("go on from", classes="label")
            yield Field(placeholder="t, then a text and enter", id="prompt", select_on_focus=False)
        yield panel("Compressed beside dense", scroll, id="chat-panel", classes="fill")

    def focus_main(self) -> None:
        """The table has the keys."""
        self.query_one("#files").focus()

    def draw(self, view: View) -> None:
        """Files, facts and the conversation."""
        at = source(view, "bundle")
        manifest = at.content if isinstance(at.content, BundleManifest) else None
        is_narrow = self.has_class("-narrow")
        # Beside names and sizes; a hash that would be cut off at the edge is shortened instead.
        length = 24 if is_narrow else max(24, min(64, self.size.width // 2 - 40))
        rows = [] if manifest is None else _file_rows(at, manifest, length)
        self.query_one("#files", FigureTable).show(_FILES, rows)
        title = (
            "Files: no bundle yet; press c on screen 4 to export one"
            if manifest is None
            else f"Files of {Path(view.run_folder or '').name}/bundle"
        )
        self.query_one("#file-panel").border_title = title
        self.query_one("#bundle-upper").styles.height = 9 if is_narrow else max(16, len(rows) + 2)
        self.query_one("#facts", FigureList).show(_facts(at))
        self._draw_chat(view)

    def _draw_chat(self, view: View) -> None:
        shown = self.query_one("#conversation", Conversation)
        parts: list[str | tuple[str, str]] = []
        figures: list[Sourced] = []
        is_queued = any(job.state == "queued" and isinstance(job.request, GenerateJob) for job in view.jobs)
        for number, turn in enumerate(view.chat):
            parts += [(f"{turn.prompt}\n", "bold")]
            for label, answer in turn.answers:
                words, speed = _answer(label, answer, number, is_queued=is_queued)
                figures += speed
                tail = f"  ({speed[0].text} tokens, {speed[1].text} each)" if speed else ""
                parts += [(f"  {label:<7}", "$primary"), words, (f"{tail}\n", "$text-muted")]
        if not parts:
            words = (
                "Press t and type a beginning: both models go on from it." if view.records.bundle is not None else ""
            )
            parts = [(words, "$text-muted")]
        shown.figures = tuple(figures)
        shown.update(Content.assemble(*parts))

    def action_type(self) -> None:
        """Into the field."""
        self.query_one("#prompt").focus()

    def action_copy_path(self) -> None:
        """Say where the bundle is, and put the path on the clipboard where the terminal allows it."""
        view = self.app_.view
        if view.run_folder is None or view.records.bundle is None:
            self.app_.say("There is no bundle yet; press c on screen 4 to export one.")
            return
        path = str(Path(view.run_folder, "bundle"))
        self.app.copy_to_clipboard(path)
        self.app_.say(f"The bundle is {path}; its path was copied.")

    @on(Input.Submitted, "#prompt")
    def _asked(self, event: Input.Submitted) -> None:
        view, prompt = self.app_.view, event.value.strip()
        if not prompt:
            return
        if view.run_folder is None or view.records.bundle is None:
            self.app_.say("There is no bundle to talk to yet; press c on screen 4 to export one.")
            return
        event.input.value = ""
        self.app_.tell(told.ChatAsked(prompt, tuple(_FOLDERS)))
        for label, folder in _FOLDERS.items():
            self._ask(label, str(Path(view.run_folder, folder)), prompt)

    def _ask(self, label: str, bundle: str, prompt: str) -> None:
        app = self.app_
        request = GenerateJob(bundle=bundle, prompt=prompt, sampling=Sampling(max_tokens=_MOST_TOKENS))
        app.feed.fetch(request, GeneratedText, lambda answer: app.hear(told.ChatAnswered(label, answer)))


def _file_rows(at: Source, manifest: BundleManifest, length: int) -> list[Row]:
    """The largest first: they are what the device has to hold; so many characters of each hash."""
    order = sorted(enumerate(manifest.files), key=lambda item: -item[1].size_bytes)
    return [
        Row(
            entry.path,
            (
                at.take(f"files[{index}].path"),
                at.take(f"files[{index}].size_bytes", "bytes"),
                Sourced(at.record, f"files[{index}].sha256", entry.sha256[:length]),
            ),
        )
        for index, entry in order
    ]


def _facts(at: Source) -> list[FigureLine]:
    if at.content is None:
        return []
    return [
        ("model", at.take("spec.name"), ""),
        ("parameters", at.take("spec.parameter_count", "parameters"), ""),
        ("vocabulary", at.take("spec.vocab_size", "count"), "tokens"),
        ("context", at.take("workload.context_tokens", "count"), "tokens"),
        ("logits off by", at.take("parity.max_logit_difference", "fraction"), "of torch's largest"),
        ("same token", at.take("parity.top1_agreement", "fraction"), "of positions, as torch"),
        ("greedy text", at.take("parity.greedy_matched_count", "count"), "tokens as torch"),
        ("onnxruntime", at.take("minimum_onnxruntime"), "or newer"),
        ("licence", at.take("license"), "of the base model"),
    ]


def _answer(
    label: str, answer: GeneratedText | None, number: int, *, is_queued: bool
) -> tuple[str, tuple[Sourced, ...]]:
    if answer is None:
        return "waits for its turn (screen 7)" if is_queued else "...", ()
    at = Source(f"generate ({label}, question {number + 1})", answer)
    speed = (at.take("completion_tokens", "count"), at.take("decode_s", "seconds"))
    return answer.text.strip().replace("\n", " "), speed
