"""What `?` shows: the focused widget, the screen, and its keys."""

from typing import Any

from textual.app import App

__all__ = ["help_for"]

_EVERYWHERE = (
    "1 to 8, [ and ]   the screens; tab and shift+tab move between panels and fields, esc leaves a field\n"
    "/                 in a table: show only rows that have some letters\n"
    "i                 where the figures come from: record and field\n"
    "ctrl+p            every command; also themes (light and dark) and screenshots\n"
    "ctrl+q            close the app; jobs go on, the next start shows them again"
)


def help_for(app: App[Any]) -> tuple[str, str]:
    """Title and text."""
    focused, screen = app.focused, app.screen
    parts = []
    about = getattr(focused, "help_text", "")
    if about:
        parts.append(about)
    parts.append(getattr(screen, "help_text", ""))
    keys = [
        (app.get_key_display(active.binding), active.binding.description)
        for active in screen.active_bindings.values()
        if active.binding.show and active.binding.description and active.node is not app
    ]
    if keys:
        width = max(len(key) for key, _ in keys)
        parts.append("Keys here\n" + "\n".join(f"{key:<{width}}   {what}" for key, what in dict.fromkeys(keys)))
    parts.append("Keys everywhere\n" + _EVERYWHERE)
    title = str(getattr(screen, "title_text", "EdgePrune"))
    return f"Help: {title}", "\n\n".join(part for part in parts if part)
