"""Where an entry of a TOML document stands: `("sites", 3, "rank")` -> its line.

The standard library's reader gives values without positions. This scanner reads the structure alone (keys, tables,
arrays and strings; https://toml.io/en/v1.0.0) of a document that reader has already accepted, so it checks nothing.
"""

from collections.abc import Sequence

__all__ = ["Entry", "line_of"]

Entry = Sequence[str | int]
"""Keys and array positions from the top of the document to one entry."""

_BLANK = " \t\r\n"


def line_of(text: str, entry: Entry) -> int:
    """Line, from 1, of an entry, or of the nearest one around it that the document has; 1 for the document itself."""
    lines = _Scanner(text).lines
    for length in range(len(entry), 0, -1):
        found = lines.get(tuple(entry[:length]))
        if found is not None:
            return found
    return 1


class _Scanner:
    """Notes the line of every entry; one pass."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._array_lengths: dict[tuple[str | int, ...], int] = {}
        self.lines: dict[tuple[str | int, ...], int] = {}
        table: tuple[str | int, ...] = ()
        while self._skip_blank():
            if self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip_blank(self) -> bool:
        """Pass spaces, line ends and comments; False at the end."""
        while self._at < len(self._text):
            if self._peek() == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif self._peek() in _BLANK:
                self._at += 1
            else:
                return True
        return False

    def _note(self, path: tuple[str | int, ...]) -> None:
        self.lines.setdefault(path, self._text.count("\n", 0, self._at) + 1)

    def _header(self) -> tuple[str | int, ...]:
        is_array = self._text.startswith("[[", self._at)
        start = self._at
        self._at += 2 if is_array else 1
        keys = self._keys()
        after = self._at + (2 if is_array else 1)
        self._at = start
        path: tuple[str | int, ...] = ()
        for position, key in enumerate(keys):
            path = (*path, key)
            if is_array and position == len(keys) - 1:
                self._note(path)
                self._array_lengths[path] = self._array_lengths.get(path, 0) + 1
            if path in self._array_lengths:
                path = (*path, self._array_lengths[path] - 1)
        self._note(path)
        self._at = after
        return path

    def _keys(self) -> list[str]:
        """A key, dotted or not, up to the `=` or `]` behind it."""
        keys = [""]
        while self._peek() not in ("=", "]", ""):
            if self._peek() in "\"'":
                start = self._at
                self._string()
                keys[-1] = self._text[start + 1 : self._at - 1]
                continue
            if self._peek() == ".":
                keys.append("")
            elif self._peek() not in _BLANK:
                keys[-1] += self._peek()
            self._at += 1
        return keys

    def _pair(self, table: tuple[str | int, ...]) -> None:
        start = self._at
        keys = self._keys()
        after, self._at = self._at + 1, start
        path = table
        for key in keys:
            path = (*path, key)
            self._note(path)
        self._at = after
        self._value(path)

    def _value(self, path: tuple[str | int, ...]) -> None:
        self._skip_blank()
        if self._peek() == "{":
            self._members(path, "}")
        elif self._peek() == "[":
            self._members(path, "]")
        elif self._peek() in "\"'":
            self._string()
        else:
            while self._peek() not in (",", "]", "}", "#", "\n", ""):
                self._at += 1

    def _members(self, path: tuple[str | int, ...], closing: str) -> None:
        self._at += 1
        count = 0
        while self._skip_blank() and self._peek() != closing:
            if self._peek() == ",":
                self._at += 1
            elif closing == "}":
                self._pair(path)
            else:
                self._note((*path, count))
                self._value((*path, count))
                count += 1
        self._at += 1

    def _string(self) -> None:
        quote = self._peek()
        mark = quote * 3 if self._text.startswith(quote * 3, self._at) else quote
        self._at += len(mark)
        while self._at < len(self._text) and not self._text.startswith(mark, self._at):
            self._at += 2 if quote == '"' and self._peek() == "\\" else 1
        self._at += len(mark)
        while len(mark) == 3 and self._peek() == quote:  # a quotation mark may stand right before the closing ones
            self._at += 1
