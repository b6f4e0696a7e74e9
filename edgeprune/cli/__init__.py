"""The command line: one verb a file; `output` alone writes stdout, `diagnostics` alone writes stderr."""

from edgeprune.cli.main import main

__all__ = ["main"]
