"""`Happened`: a message of ours on textual's queue; `post_message` is the one call that is safe from any thread."""

from textual.message import Message as TextualMessage

from edgeprune.tui.messages import Message

__all__ = ["Happened"]


class Happened(TextualMessage):
    """Something happened."""

    def __init__(self, told: Message) -> None:
        """Keep what."""
        super().__init__()
        self.told = told
