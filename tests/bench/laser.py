"""LASER on the demo: the fast search against the full published grid, and what it does to rare facts.

    python tests/bench/laser.py [--questions N] [--no-compose] [--output FILE] [--threads N]

Questions are made by the demo's generator, N of each group and domain (frequent and rare facts of law, medicine,
finance); a fifth selects, four fifths report. `grid` asks all selection questions of every edit of the grid, `fast` a
fiftieth of that; `compose` joins edits greedily and takes as long as the grid again (`--no-compose` leaves it out).
Judged: the fast search's edit answers within one point as many report questions as the grid's, with at most 1/50 of its
evaluations. Frequent and rare facts are shown apart. Prints tables, writes JSON, exits with 1 when a promise is missed.
"""

import argparse
import json
import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

import torch  # noqa: E402

from edgeprune.calibrate.answers import AskedQuestions  # noqa: E402
from edgeprune.calibrate.selection import exchanged_sites  # noqa: E402
from edgeprune.compress.laser_search.interventions import Intervention, Spectra, published_grid  # noqa: E402
from edgeprune.compress.laser_search.run import compared, search_laser, split_fifth  # noqa: E402
from edgeprune.demo.grammar import Draw  # noqa: E402
from edgeprune.demo.paths import DEMO_QUESTION_DOMAINS, demo_model_path  # noqa: E402
from edgeprune.demo.questions import make_questions  # noqa: E402
from edgeprune.demo.world import World  # noqa: E402
from edgeprune.intake.load import LoadedModel, load_model  # noqa: E402
from edgeprune.schema.events import NullProgress  # noqa: E402
from edgeprune.schema.laser import LaserReport  # noqa: E402
from edgeprune.schema.questions import Question  # noqa: E402

CONTEXT_TOKENS = 256
SEARCHES = ("fast", "grid", "compose")
"""The quick one first; the promise is judged once the grid is done, and composing comes after."""
MOST_POINTS = 0.01
MOST_SHARE = 1 / 50


def asked_questions(per_group: int) -> tuple[list[Question], dict[Question, str]]:
    """Questions on the demo's facts, and the group of each; no prompt twice."""
    world = World(0)
    groups: dict[Question, str] = {}
    for domain in DEMO_QUESTION_DOMAINS:
        for one in make_questions(world.facts.domains[domain], Draw(1, "laser", domain), per_group=per_group):
            question = Question(prompt=one["prompt"], choices=tuple(one["choices"]), answer=one["answer"])
            groups[question] = one["group"]
    return list(groups), groups


def edits(loaded: LoadedModel, found: LaserReport) -> dict[str, torch.Tensor]:
    spectra = Spectra(loaded)
    weights = {}
    for site, rank in zip(found.sites, found.ranks, strict=True):
        _, block, role = site.split(".")
        weights[site] = spectra.truncated(Intervention(int(block), role, rank, 0.0))  # type: ignore[arg-type]
    return weights


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=225, help="of each group and domain (default %(default)s)")
    parser.add_argument("--no-compose", action="store_true", help="the searches of the promise alone")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "laser.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    loaded = load_model(demo_model_path())
    questions, groups = asked_questions(options.questions)
    _, reported = split_fifth(questions)
    offered = published_grid(loaded.spec)
    print(f"{len(questions)} questions, {len(reported)} to report on; {len(offered)} edits in the grid", flush=True)
    rows: list[dict[str, object]] = []
    found: dict[str, LaserReport] = {}
    claims: list[tuple[str, float, bool]] = []
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for search in SEARCHES[:2] if options.no_compose else SEARCHES:
        report = search_laser(loaded, questions, search=search, context_tokens=CONTEXT_TOKENS, progress=NullProgress())
        found[search] = report
        row: dict[str, object] = {
            "search": search,
            "edits": [f"{site} rank {rank}" for site, rank in zip(report.sites, report.ranks, strict=True)],
            "evaluations": report.evaluations,
            "all": report.report,
        }
        for group in ("frequent", "rare"):
            own = [question for question in reported if groups[question] == group]
            asked = AskedQuestions(loaded, own, context_tokens=CONTEXT_TOKENS)
            before = asked.ask(loaded)
            with exchanged_sites(loaded, edits(loaded, report)):
                row[group] = compared(before, asked.ask(loaded))
        rows.append(row)
        show(row)
        if search == "grid":
            claims = judged(found)
        options.output.write_text(json.dumps({"rows": rows, "claims": claims}, indent=1, default=_plain))
    return 0 if all(is_met for _, _, is_met in claims) else 1


def judged(found: dict[str, LaserReport]) -> list[tuple[str, float, bool]]:
    """The promises: what is promised, the figure, whether it is kept."""
    gap = found["grid"].report.accuracy - found["fast"].report.accuracy
    share = found["fast"].evaluations / found["grid"].evaluations
    claims = [
        ("the fast search's edit is within one point of the grid's, report questions", gap, gap <= MOST_POINTS),
        ("its evaluations / the grid's", share, share <= MOST_SHARE),
    ]
    for text, value, is_met in claims:
        print(f"{'met   ' if is_met else 'MISSED'} {text}: {value:.4f}")
    return claims


def show(row: dict[str, object]) -> None:
    print(f"{row['search']}: {row['edits'] or 'nothing beats the dense model'}, {row['evaluations']:.1f} evaluations")
    for group in ("all", "frequent", "rare"):
        answers = row[group]
        print(
            f"  {group:<9} {answers.question_count:>5} questions: accuracy {answers.dense_accuracy:.3f} -> "  # type: ignore[attr-defined]
            f"{answers.accuracy:.3f} ({answers.accuracy_change_low:+.3f} to {answers.accuracy_change_high:+.3f}), "  # type: ignore[attr-defined]
            f"log-loss {answers.dense_log_loss:.3f} -> {answers.log_loss:.3f}",  # type: ignore[attr-defined]
            flush=True,
        )


def _plain(value: object) -> object:
    import msgspec

    return msgspec.to_builtins(value)


if __name__ == "__main__":
    sys.exit(main())
