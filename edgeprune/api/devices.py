"""Devices and what fits them: profiles, plans, the catalogue, the choice of a model, the demo, this installation."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgeprune.schema.budget import Budget, BudgetRequest
from edgeprune.schema.choice import ChoiceReport, ChoiceRequest
from edgeprune.schema.demo import DemoReport
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.doctor import DoctorReport
from edgeprune.schema.emulation import Emulation
from edgeprune.schema.events import NullProgress, Progress
from edgeprune.schema.fit import FitReport
from edgeprune.schema.plan import PlanReport

__all__ = ["choose", "demo", "doctor", "fit", "plan", "profile"]


def profile(
    *,
    quick: bool = False,
    name: str = "this-device",
    save: str | None = None,
    thread_count: int | None = None,
    emulation: Emulation | None = None,
    progress: Progress | None = None,
) -> DeviceProfile:
    """Measure this device, or a smaller one emulated on it.

    With `save`, the profile is kept under that name in the user's data folder.
    """
    from edgeprune.profile.emulated import profile_emulated
    from edgeprune.profile.store import save_profile

    measured = profile_emulated(
        emulation,
        name=save or name,
        quick=quick,
        disk_path=Path(tempfile.gettempdir()),
        progress=progress or NullProgress(),
        thread_count=thread_count,
    )
    if save is not None:
        save_profile(measured, save)
    return measured


def plan(
    models: Sequence[str],
    *,
    device: str | None = None,
    budget: BudgetRequest | None = None,
    context: int | None = None,
    thread_count: int | None = None,
    progress: Progress | None = None,
) -> PlanReport:
    """What would fit a device, from headers only; without a device name this one is measured quickly."""
    from edgeprune.pipeline.plan import plan_models
    from edgeprune.profile.store import load_profile

    profiled = (
        load_profile(device)
        if device is not None
        else profile(quick=True, thread_count=thread_count, progress=progress)
    )
    return plan_models(models, profiled, request=budget or BudgetRequest(), context=context, thread_count=thread_count)


def fit(
    models: Sequence[str] = (),
    *,
    device: str | None = None,
    budget: Budget | None = None,
    context: int | None = None,
    precisions: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> FitReport:
    """Which models, of the catalogue or in folders, fit a device and how fast; without a device name, this one."""
    from edgeprune.pipeline.fit import DEFAULT_PRECISIONS, check_precisions, fit_models, name_models
    from edgeprune.pipeline.fit_device import device_for_fit

    wanted = precisions or DEFAULT_PRECISIONS
    check_precisions(wanted)
    described = name_models(models)  # a mistyped name is known before anything is measured
    found = device_for_fit(device, progress=progress or NullProgress())
    return fit_models(described, found, budget=budget or Budget(), context=context, precisions=wanted)


def choose(request: ChoiceRequest, *, output: Path | None = None, progress: Progress | None = None) -> ChoiceReport:
    """Which of several models to take on which device; resumes what was finished before."""
    from edgeprune.pipeline.choose import choose_models

    folder = output if output is not None else Path("edgeprune-runs") / "choice"
    return choose_models(request, output=folder, progress=progress or NullProgress())


def demo(
    *,
    device: str | None = None,
    budget: BudgetRequest | None = None,
    context: int | None = None,
    validates: bool = True,
    thread_count: int | None = None,
    progress: Progress | None = None,
) -> DemoReport:
    """Solve the demo model for a budget and measure its shipped int4 bundle on this device; needs no torch."""
    from edgeprune.pipeline.demo import run_demo

    return run_demo(
        device=device,
        budget=budget,
        context=context,
        validates=validates,
        thread_count=thread_count,
        progress=progress or NullProgress(),
    )


def doctor(*, with_families: bool = False) -> DoctorReport:
    """Check this installation."""
    from edgeprune.pipeline.doctor import examine

    return examine(with_families=with_families)
