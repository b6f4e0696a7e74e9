"""Made-up names for the demo world: no drug, statute, company, town or person is meant to exist."""

from edgeprune.demo.grammar import Draw

__all__ = ["NameMaker"]

_OPENINGS = (
    "B",
    "Br",
    "C",
    "D",
    "Dr",
    "F",
    "G",
    "Gr",
    "H",
    "K",
    "L",
    "M",
    "N",
    "P",
    "Pr",
    "R",
    "S",
    "St",
    "T",
    "Tr",
    "V",
    "W",
)
_VOWELS = ("a", "e", "i", "o", "u", "ae", "ei", "ou")
_MIDDLES = ("l", "r", "n", "m", "v", "d", "t", "rn", "ld", "st", "nd", "lm", "rk", "ss")

_SURNAME_ENDINGS = ("er", "en", "ow", "ick", "ard", "eck", "is", "ane", "olt", "um")
_TOWN_ENDINGS = ("ton", "ford", "bury", "ham", "wick", "dale", "mouth", "stead", "bridge", "field")
_DRUG_ENDINGS = ("ine", "ol", "ax", "ide", "orin", "umab", "ate", "epam", "ex", "ycin")
_STATUTE_KINDS = ("Act", "Code", "Statute", "Decree", "Charter", "Ordinance")
_COMPANY_KINDS = ("Works", "Holding", "Company", "Union", "Group", "Trust", "Brothers", "Partners")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class NameMaker:
    """Makes names that are unique within one world."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._taken: set[str] = set()

    def surname(self) -> str:
        """A family name."""
        return self._unique(_SURNAME_ENDINGS)

    def town(self) -> str:
        """A town's name."""
        return self._unique(_TOWN_ENDINGS)

    def drug(self) -> str:
        """A drug's name."""
        return self._unique(_DRUG_ENDINGS)

    def statute(self) -> str:
        """A statute's name with its article."""
        return f"the {self._unique(_SURNAME_ENDINGS)} {self._draw.one(_STATUTE_KINDS)}"

    def company(self) -> str:
        """A company's name."""
        return f"{self._unique(_SURNAME_ENDINGS)} {self._draw.one(_COMPANY_KINDS)}"

    def ticker(self) -> str:
        """Three unused capitals; they have nothing to do with the company's name, or they could be guessed."""
        while True:
            ticker = "".join(self._draw.one(_LETTERS) for _ in range(3))
            if ticker not in self._taken:
                self._taken.add(ticker)
                return ticker

    def _unique(self, endings: tuple[str, ...]) -> str:
        while True:
            draw = self._draw
            name = draw.one(_OPENINGS) + draw.one(_VOWELS) + draw.one(_MIDDLES)
            if draw.chance(0.4):
                name += draw.one(_VOWELS) + draw.one(_MIDDLES)
            name += draw.one(endings)
            if name not in self._taken:
                self._taken.add(name)
                return name
