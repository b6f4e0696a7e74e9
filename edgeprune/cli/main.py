"""The group of verbs, loaded one by one, and the border where errors become exit codes.

A verb that works does so in a child, forked before anything heavy is loaded (a second interpreter would double the
time of those that answer in half a second): when memory runs out, what the user started is still there to say so.
Verbs that only ask the daemon or look at folders, and the app, stay in this process. `--detach` hands the long verbs to
the daemon, whose children have a memory limit and outlive the terminal.
"""

import signal
import sys
from importlib import import_module
from types import FrameType

import click

from edgeprune import __version__
from edgeprune.cli.diagnostics import explain, explain_signal, note
from edgeprune.errors import ExitCode
from edgeprune.jobs.own_process import run_in_child

__all__ = ["app", "main"]

VERBS = {
    "run": "Profile, search, compress, export, validate and report, in one command.",
    "profile": "Measure this device.",
    "fit": "Which small open models fit a device, and how fast; offline.",
    "plan": "What would fit, from a model's headers only.",
    "choose": "Which of several models to take, and whether pruning it is worth it.",
    "search": "Solve a run again, for another budget.",
    "explain": "Why a recipe is what it is, and what each alternative would cost.",
    "compress": "Apply a run's recipe, or one technique to a model.",
    "laser": "Truncate single matrices so that a model answers more questions.",
    "export": "Write a run's ONNX bundles.",
    "validate": "Measure a bundle, or a run's bundles, on this device.",
    "generate": "Let a bundle continue a text.",
    "chat": "Talk to a bundle.",
    "serve": "Serve a bundle to OpenAI clients on this machine.",
    "report": "Render a run's report again.",
    "demo": "Solve and measure the demo model that ships with EdgePrune, without torch.",
    "runs": "List and remove run folders.",
    "jobs": "List what was handed to the daemon with --detach.",
    "attach": "Follow a job from its beginning; Ctrl-C lets go, the job goes on.",
    "cancel": "Take a job off the queue, or stop it.",
    "resume": "Go on with a job that was interrupted, cancelled or failed.",
    "daemon": "Start, stop and look at the daemon that runs jobs.",
    "doctor": "Check this installation.",
    "completion": "Print shell completion.",
}
"""Verb -> one line of help; each verb is the command `command` in `edgeprune/cli/<verb>_verb.py`."""


FRONT_VERBS = frozenset(("runs", "jobs", "attach", "cancel", "resume", "daemon", "completion"))
"""Verbs without work of their own."""


class VerbGroup(click.Group):
    """Lists verbs without importing them and imports only the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of the work."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        if cmd_name not in VERBS:
            return None
        command = import_module(f"edgeprune.cli.{cmd_name}_verb").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs in `--help`."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=VerbGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", message="edgeprune %(version)s")
def app() -> None:
    """Get a language model onto a given device within a given budget, and prove it there.

    Without a verb, in a terminal, the app opens; everything in it is a verb too.

    Exit codes: 0 met; 1 budget cannot be met or was not met; 2 usage or bad input; 3 model or bundle cannot be
    loaded; 4 runtime, device or disk failure, or unmeasured; 5 daemon or cluster unreachable; 130 interrupted.
    """


def _terminate(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough, and what is tidied up then takes its time
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the `edgeprune` command."""
    signal.signal(signal.SIGTERM, _terminate)
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in VERBS or arguments[0] in FRONT_VERBS:
        sys.exit(run_app(arguments))
    code = run_in_child(lambda: run_app(arguments))
    sys.exit(code if code >= 0 else int(explain_signal(-code)))


def run_app(arguments: list[str]) -> int:
    """Run one command line and return its exit code; every error ends here in one sentence."""
    try:
        if not arguments and all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
            from edgeprune.tui.app import run  # textual, which no verb needs

            run()
            return int(ExitCode.MET)
        result = app.main(args=arguments, prog_name="edgeprune", standalone_mode=False)
        return int(result) if isinstance(result, int) else int(ExitCode.MET)
    except click.exceptions.NoArgsIsHelpError as error:
        note(error.format_message())
        return int(ExitCode.USAGE)
    except click.ClickException as error:
        note(f"edgeprune: {error.format_message()}")
        return int(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        return int(explain(KeyboardInterrupt()))
    except Exception as error:
        return int(explain(error))
