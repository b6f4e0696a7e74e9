"""The three themes: dark, light, and one of the sixteen colours that a plain console has."""

from textual.theme import Theme

__all__ = ["THEMES"]


def _theme(name: str, *, dark: bool, colours: dict[str, str], extra: dict[str, str]) -> Theme:
    return Theme(
        name=name,
        dark=dark,
        primary=colours["primary"],
        secondary=colours["secondary"],
        accent=colours["accent"],
        warning=colours["warning"],
        error=colours["error"],
        success=colours["success"],
        foreground=colours["foreground"],
        background=colours["background"],
        surface=colours["surface"],
        panel=colours["panel"],
        variables={
            "nav-active": colours["primary"],
            "nav-active-text": colours["background"],
            "bar-empty": colours["edge"],
            "edge": colours["edge"],
            "plot-line": colours["secondary"],
            "text-muted": colours["muted"],
            "text-primary": colours["primary"],
            "text-error": colours["error"],
            "text-success": colours["success"],
            "text-warning": colours["warning"],
            "footer-key-foreground": colours["primary"],
            "footer-background": colours["background"],
            "block-cursor-background": colours["cursor"],
            "block-cursor-foreground": colours["foreground"],
            "block-cursor-text-style": "none",
            "block-cursor-blurred-background": colours["panel"],
            "block-cursor-blurred-foreground": colours["foreground"],
            "scrollbar": colours["edge"],
            "scrollbar-hover": colours["muted"],
            "scrollbar-active": colours["primary"],
            "scrollbar-background": colours["background"],
            "scrollbar-background-hover": colours["background"],
            "scrollbar-background-active": colours["background"],
            "input-selection-background": colours["cursor"],
            **extra,
        },
    )


THEMES = (
    _theme(
        "edgeprune-dark",
        dark=True,
        colours={
            "primary": "#7dcfff", "secondary": "#7aa2f7", "accent": "#ffb86c", "warning": "#e0af68",
            "error": "#f7768e", "success": "#9ece6a", "foreground": "#d5daea", "background": "#12141c",
            "surface": "#181b26", "panel": "#222636", "edge": "#3b4261", "muted": "#8b93b3", "cursor": "#2e3a5c",
        },
        extra={},
    ),
    _theme(
        "edgeprune-light",
        dark=False,
        colours={
            "primary": "#0b63a5", "secondary": "#3c5fc4", "accent": "#a35200", "warning": "#8a5a00",
            "error": "#b3143a", "success": "#2f6f1b", "foreground": "#1d2233", "background": "#fbfbf8",
            "surface": "#f2f2ee", "panel": "#e5e6e2", "edge": "#b9bdc9", "muted": "#5d6479", "cursor": "#cfe0f2",
        },
        extra={},
    ),
    _theme(
        "edgeprune-console",
        dark=True,
        colours={
            "primary": "#00ffff", "secondary": "#00aaaa", "accent": "#ffff00", "warning": "#ffff00",
            "error": "#ff5555", "success": "#55ff55", "foreground": "#ffffff", "background": "#000000",
            "surface": "#000000", "panel": "#0000aa", "edge": "#555555", "muted": "#aaaaaa", "cursor": "#0000aa",
        },
        extra={},
    ),
)  # fmt: skip
"""Texts keep a contrast of at least 4.5 against their background in all three."""
