"""The Python API: one typed function a verb, each returning the record the command line prints with `--json`.

Front doors call these and nothing deeper. Imports of stages are deferred, so that a verb loads only what it needs.
"""

from edgeprune.api.devices import choose, demo, doctor, fit, plan, profile
from edgeprune.api.runs import compress, explain, export, list_runs, preview, remove_runs, report, run, search, validate
from edgeprune.api.techniques import compress_with, export_by_block, laser
from edgeprune.api.texts import Conversation, generate, serve

__all__ = [
    "Conversation",
    "choose",
    "compress",
    "compress_with",
    "demo",
    "doctor",
    "explain",
    "export",
    "export_by_block",
    "fit",
    "generate",
    "laser",
    "list_runs",
    "plan",
    "preview",
    "profile",
    "remove_runs",
    "report",
    "run",
    "search",
    "serve",
    "validate",
]
