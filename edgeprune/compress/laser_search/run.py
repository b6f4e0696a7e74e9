"""`search_laser`: split the questions, search on a fifth, report on the rest."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from edgeprune.calibrate.answers import Answers, AskedQuestions
from edgeprune.calibrate.selection import Selection, exchanged_sites
from edgeprune.compress.laser_search.interventions import Intervention, published_grid
from edgeprune.compress.laser_search.prior import expected_changes
from edgeprune.compress.laser_search.searches import Prior, compose, fast, grid
from edgeprune.compress.laser_search.trials import Interventions, Trials
from edgeprune.errors import UsageError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Progress
from edgeprune.schema.laser import LaserAnswers, LaserReport
from edgeprune.schema.questions import Question

__all__ = ["SEARCHES", "search_laser", "split_fifth"]

_Search = Callable[[Trials, Sequence[Intervention], Prior], Interventions]
SEARCHES: Mapping[str, _Search] = {"grid": grid, "fast": fast, "compose": compose}

PRIOR_QUESTIONS = 100
"""Differentiated for the prior; they are selection questions."""
_FEWEST = 10
"""Questions below which a fifth of them would choose by chance."""
_RESAMPLES = 2000


def split_fifth(questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """A fifth to select on and the rest to report on, by rank of the content's hash; equal questions stay together.

    Raises:
        UsageError: fewer than ten different questions.
    """
    ordered = sorted(questions, key=lambda question: hashlib.sha256(msgspec.json.encode(question)).digest())
    different = list(dict.fromkeys(ordered))
    if len(different) < _FEWEST:
        raise UsageError(
            f"LASER selects on a fifth of the questions and there are only {len(different)}; give at least {_FEWEST}."
        )
    selected = set(different[: len(different) // 5])
    return [one for one in questions if one in selected], [one for one in questions if one not in selected]


def search_laser(
    loaded: LoadedModel,
    questions: Sequence[Question],
    *,
    search: str,
    context_tokens: int,
    progress: Progress,
    interventions: Sequence[Intervention] | None = None,
    domain: Selection | None = None,
    max_loss: float | None = None,
) -> LaserReport:
    """Search for the interventions that answer most selection questions.

    Args:
        loaded: the dense model; unchanged when this returns.
        questions: a fifth selects, four fifths report.
        search: `grid`, `fast` or `compose`.
        context_tokens: longer prompts lose their beginning.
        progress: asked whether to stop.
        interventions: those to choose from; None takes the published grid.
        domain: selection text whose loss limits the choice.
        max_loss: relative rise of that loss that is allowed.

    Raises:
        UsageError: an unknown search, or too few questions.
    """
    if search not in SEARCHES:
        raise UsageError(f"Unknown LASER search {search!r}; use one of {', '.join(SEARCHES)}.")
    selected, reported = split_fifth(questions)
    offered = list(interventions) if interventions is not None else published_grid(loaded.spec)
    asked = AskedQuestions(loaded, selected, context_tokens=context_tokens)
    trials = Trials(loaded, asked, progress=progress, domain=domain, max_loss=max_loss)

    def prior(proposed: Sequence[Intervention]) -> Sequence[float]:
        return expected_changes(
            loaded, trials.spectra, proposed, selected[:PRIOR_QUESTIONS], context_tokens=context_tokens
        )

    chosen = SEARCHES[search](trials, offered, prior)
    final = AskedQuestions(loaded, reported, context_tokens=context_tokens)
    before = final.ask(loaded, progress=progress)
    with exchanged_sites(loaded, {one.site: trials.spectra.truncated(one) for one in chosen}):
        after = final.ask(loaded, progress=progress)
    return LaserReport(
        search=search,
        selection_count=len(selected),
        evaluations=trials.evaluations,
        dense_accuracy=trials.dense.accuracy,
        dense_log_loss=trials.dense.log_loss,
        trials=tuple(trials.log),
        sites=tuple(one.site for one in chosen),
        ranks=tuple(one.rank for one in chosen),
        priors=tuple(one.prior for one in chosen),
        report=compared(before, after),
    )


def compared(before: Answers, after: Answers) -> LaserAnswers:
    """Two models' answers to the same questions, with a paired bootstrap of the change in accuracy."""
    change = after.is_right.astype(float) - before.is_right.astype(float)
    rng = np.random.default_rng(0)
    means = change[rng.integers(0, len(change), size=(_RESAMPLES, len(change)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return LaserAnswers(
        question_count=len(change),
        dense_accuracy=before.accuracy,
        accuracy=after.accuracy,
        accuracy_change_low=float(low),
        accuracy_change_high=float(high),
        dense_log_loss=before.log_loss,
        log_loss=after.log_loss,
    )
