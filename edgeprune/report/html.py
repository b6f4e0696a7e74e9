"""The report as one self-contained HTML file: no script, no external resource, light and dark by the reader's setting.

Everything that comes from outside (names, licences, notes) passes through the template engine's escaping.
"""

from importlib import resources

import jinja2

from edgeprune.report.forgotten_text import CONTRAST_HEAD, CONTRAST_TEXT, contrast_values, number_text, tokens_text
from edgeprune.report.plots import front_plot, latency_plot
from edgeprune.report.text import (
    LABELS,
    budget_lines,
    check_name,
    check_value,
    format_value,
    heading,
    quantity_names,
    quantity_of,
    short_error,
)
from edgeprune.schema.report import RunReport

__all__ = ["render_html"]

BASES = {
    "measured": "measured",
    "estimated": "estimated",
    "corrected": "corrected",
    "datasheet": "data sheet",
    "config": "source",
}


def render_html(report: RunReport) -> str:
    """One HTML document."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "amount": format_value,
        "check_name": check_name,
        "check_value": check_value,
        "error": short_error,
        "heading": heading,
        "quantity": quantity_of,
        "share": lambda fraction: f"{0.06 + 0.44 * min(1.0, fraction):.3f}",
        "contrast": contrast_values,
        "number": number_text,
        "tokens": tokens_text,
        "words": lambda verdict: verdict.replace("_", " "),
    }
    source = resources.files("edgeprune.report").joinpath("template.html").read_text(encoding="utf-8")
    roles = dict.fromkeys(role for block in report.blocks for role in block.sites)
    return environment.from_string(source).render(
        report=report,
        bases=BASES,
        budget=budget_lines(report),
        contrast_head=CONTRAST_HEAD,
        contrast_text=CONTRAST_TEXT,
        front=front_plot(report.search),
        labels=LABELS,
        latency=latency_plot(report.validation.measurements),
        names=quantity_names(report),
        roles=list(roles),
    )
