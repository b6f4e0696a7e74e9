"""Asking an edited model the selection questions, and keeping account of it."""

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeprune.calibrate.answers import Answers, AskedQuestions, joined
from edgeprune.calibrate.selection import Selection, exchanged_sites, loss_increase
from edgeprune.compress.laser_search.interventions import Intervention, Spectra
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Progress
from edgeprune.schema.laser import LaserTrial

__all__ = ["Trials"]

Interventions = tuple[Intervention, ...]


class Trials:
    """The dense model with interventions for the moment; counts what was asked."""

    def __init__(
        self,
        loaded: LoadedModel,
        asked: AskedQuestions,
        *,
        progress: Progress,
        domain: Selection | None = None,
        max_loss: float | None = None,
    ) -> None:
        """Ask the dense model.

        Args:
            loaded: the dense model; unchanged between calls.
            asked: the selection questions.
            progress: asked whether to stop.
            domain: selection text; None leaves the loss there unmeasured.
            max_loss: relative rise of the loss on it beyond which interventions are rejected.
        """
        self._loaded, self._asked, self._progress = loaded, asked, progress
        self._domain, self._max_loss = domain, max_loss
        self.spectra = Spectra(loaded)
        self.dense = asked.ask(loaded, progress=progress)
        self.log: list[LaserTrial] = []
        self._earlier: dict[Interventions, list[Answers]] = {}
        self.evaluations = 0.0
        """In units of all selection questions."""

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, chosen: Interventions, indices: NDArray[np.int64] | None = None) -> Answers:
        """Answers of the model with these interventions to all questions, or to some; with what it answered before."""
        weights = {one.site: self.spectra.truncated(one) for one in chosen}
        with exchanged_sites(self._loaded, weights):
            found = self._asked.ask(self._loaded, indices, progress=self._progress)
        self.evaluations += len(found.is_right) / len(self)
        if indices is not None:
            found = joined([*self._earlier.get(chosen, ()), found])
            self._earlier[chosen] = [found]
        self._note(chosen, found)
        return found

    def is_allowed(self, chosen: Interventions) -> bool:
        """Whether the loss on domain text stays within what was allowed; True where nothing limits it."""
        if self._domain is None:
            return True
        weights = {one.site: self.spectra.truncated(one) for one in chosen}
        with exchanged_sites(self._loaded, weights):
            change = loss_increase(self._loaded, self._domain, progress=self._progress) / self._domain.loss
        is_rejected = self._max_loss is not None and change > self._max_loss
        self.log = [
            replace(trial, loss_change=change, is_rejected=is_rejected)
            if (trial.sites, trial.ranks) == (_sites(chosen), _ranks(chosen))
            else trial
            for trial in self.log
        ]
        return not is_rejected

    def first_allowed(self, ordered: Sequence[Interventions]) -> Interventions:
        """The first whose loss on domain text is allowed; () when none is."""
        return next((chosen for chosen in ordered if self.is_allowed(chosen)), ())

    def _note(self, chosen: Interventions, found: Answers) -> None:
        self.log.append(
            LaserTrial(
                sites=_sites(chosen),
                ranks=_ranks(chosen),
                priors=tuple(one.prior for one in chosen),
                question_count=len(found.is_right),
                accuracy=found.accuracy,
                log_loss=found.log_loss,
            )
        )


def _sites(chosen: Interventions) -> tuple[str, ...]:
    return tuple(one.site for one in chosen)


def _ranks(chosen: Interventions) -> tuple[int, ...]:
    return tuple(one.rank for one in chosen)
