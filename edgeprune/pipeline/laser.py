"""LASER on one model: search interventions by the user's questions, apply them, save.

An intervention whose two factors store less than the matrix is kept as factors; above that rank the pivoted form still
stores less, so no truncated matrix is multiplied back.
"""

from collections.abc import Sequence
from pathlib import Path

from edgeprune.errors import UsageError
from edgeprune.schema.events import Progress
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe, SiteEdit
from edgeprune.schema.run import LaserOutcome
from edgeprune.shapes import break_even_rank

__all__ = ["intervene"]

SELECTION_TOKENS = 4_096
"""Of the domain's text, on which the rise of the loss is measured."""
WINDOW_TOKENS = 256


def intervene(
    model: str,
    *,
    questions: Path,
    search: str,
    domain: Sequence[Path],
    max_loss: float | None,
    output: Path | None,
    context: int | None,
    progress: Progress,
) -> LaserOutcome:
    """Find the truncations of single matrices with which a model answers most questions.

    Args:
        model: folder or hub id.
        questions: task file; a fifth selects, the rest is reported on.
        search: `grid`, `fast` or `compose`.
        domain: text whose loss may not rise by more than `max_loss`; without it nothing limits the loss.
        max_loss: relative rise allowed.
        output: new folder for the edited model; None only reports.
        context: tokens; None takes 512 or what the model allows.
        progress: told all along.

    Raises:
        UsageError: too few questions, `max_loss` without text, an unknown search, or a folder that is not empty.
        ModelError: the model cannot be loaded.
    """
    if output is not None and output.exists() and any(output.iterdir()):
        raise UsageError(f"{output} is not empty; give a new folder with -o.")
    if max_loss is not None and not domain:
        raise UsageError("--max-loss limits the loss on domain text; name it with --domain.")
    from edgeprune.calibrate.capture import capture  # torch: after the flags are known to be good
    from edgeprune.calibrate.corpus import encode, pack_windows, separator_token
    from edgeprune.calibrate.documents import read_documents
    from edgeprune.calibrate.questions import read_questions
    from edgeprune.calibrate.selection import prepare_selection
    from edgeprune.calibrate.token_bytes import token_byte_lengths
    from edgeprune.chat_template import ChatTemplate
    from edgeprune.compress.apply import compress_model
    from edgeprune.compress.laser_search.run import search_laser
    from edgeprune.compress.save import save_hf
    from edgeprune.intake.load import load_model
    from edgeprune.intake.source import resolve_model

    asked = read_questions(questions)
    dense = load_model(resolve_model(model))
    texts = read_documents(tuple(domain), render=ChatTemplate(dense.folder)) if domain else []
    tokens = min(context or 512, dense.spec.max_positions)
    selection = None
    if texts:
        selection = prepare_selection(
            dense,
            texts,
            encode(dense.tokenizer, texts),
            byte_lengths=token_byte_lengths(dense.tokenizer),
            window_tokens=min(WINDOW_TOKENS, tokens),
            limit_tokens=SELECTION_TOKENS,
            progress=progress,
        )
    report = search_laser(
        dense,
        asked,
        search=search,
        context_tokens=tokens,
        progress=progress,
        domain=selection,
        max_loss=max_loss,
    )
    recipe = Recipe(
        model_hash=dense.spec.model_hash,
        technique="laser",
        context_tokens=tokens,
        sites=_edits(dense.spec, dict(zip(report.sites, report.ranks, strict=True))),
    )
    if output is None:
        return LaserOutcome(folder=None, recipe=recipe, laser=report)
    # Plain SVD looks at no statistics, but every compressed model carries those of some text: the questions'.
    prompts = encode(dense.tokenizer, [question.prompt for question in asked])
    windows = pack_windows(
        prompts, separator=separator_token(dense.spec), window_tokens=min(64, tokens), limit_tokens=2048
    )
    stats = capture(dense, windows, gradient_tokens=0)
    save_hf(compress_model(dense, recipe, stats, progress=progress), recipe, output)
    return LaserOutcome(folder=str(output), recipe=recipe, laser=report)


def _edits(spec: ModelSpec, ranks: dict[str, int]) -> tuple[SiteEdit, ...]:
    edits = []
    for site in (site for block in spec.blocks for site in block.sites):
        if site.name in ranks:
            pays = ranks[site.name] <= break_even_rank(site.in_features, site.out_features)
            edit = SiteEdit(name=site.name, rank=ranks[site.name], method="laser", form="factors" if pays else "pivot")
            edits.append(edit)
    return tuple(edits)
