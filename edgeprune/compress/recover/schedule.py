"""How the rates of a training go: up, level, and down to nothing from the weights that did best.

Rates rise over the first steps, stay, and fall in a line to zero over a last part: the form that does not have to know
beforehand how long a training is of use (Hu et al. 2024, "MiniCPM", section 4.2; Haegele et al. 2024, "Scaling laws and
compute-optimal training beyond fixed training durations", section 3). How long that is depends on the text: a small one
is soon learned by heart. So the last part begins when selection text has stopped getting better, or when no more steps
are left than it takes.
"""

from dataclasses import dataclass

__all__ = ["COOLING_SHARE", "Cooling", "cooling_from", "level_steps", "rate_at"]

WARMUP_SHARE = 0.05
"""Of all steps."""
COOLING_SHARE = 0.4
"""Of the steps that led to the weights it begins with."""


@dataclass(frozen=True)
class Cooling:
    """The last part."""

    start: int
    """Steps taken before it."""
    steps: int

    @property
    def end(self) -> int:
        """Steps taken when it is over."""
        return self.start + self.steps


def level_steps(steps: int) -> int:
    """Steps after which the last part begins at the latest."""
    return max(0, min(steps - 1, int(steps / (1.0 + COOLING_SHARE))))


def cooling_from(taken: int, learned: int, steps: int) -> Cooling:
    """The last part.

    Args:
        taken: steps up to now.
        learned: steps that led to the weights it begins with.
        steps: of the whole training at most.
    """
    return Cooling(taken, max(1, min(steps - taken, int(COOLING_SHARE * learned))))


def rate_at(step: int, steps: int, cooling: Cooling | None) -> float:
    """Share of the highest rate at a step counted from 0."""
    if cooling is None:
        return min(1.0, (step + 1) / max(1.0, WARMUP_SHARE * steps))
    return 1.0 - (step - cooling.start + 0.5) / cooling.steps
