"""Who a pronoun means: a person is introduced by the full name, and only the person named last is a he or a she."""

import re

__all__ = ["References"]

_PERSON = re.compile(r"\{(p|q)(_first|_last|_he|_him|_his)?\}")
_PRONOUNS = {"_he": "{%s_last}", "_him": "{%s_last}", "_his": "{%s_last}'s"}


class References:
    """What one document has said of its two persons so far."""

    def __init__(self) -> None:
        self._introduced: set[str] = set()
        self._last_named = ""

    def resolve(self, template: str) -> str:
        """The template with full names where a person is new, and names for pronouns that would mean another."""
        named_here: set[str] = set()

        def resolved(match: re.Match[str]) -> str:
            who, form = match[1], match[2] or ""
            is_new = who not in self._introduced
            is_clear = self._last_named == who or who in named_here
            self._introduced.add(who)
            self._last_named = who
            named_here.add(who)
            if form in _PRONOUNS:
                if is_clear and not is_new:
                    return match[0]
                return _PRONOUNS[form].replace("_last", "") % who if is_new else _PRONOUNS[form] % who
            return f"{{{who}}}" if is_new else match[0]

        return _PERSON.sub(resolved, template)
