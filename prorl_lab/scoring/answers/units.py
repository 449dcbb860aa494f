r"""Units: read from tokens, known by dimension and factor, or by name alone.

A unit that stands in the table is compared by what it is worth (350 cm/s is 3.5 m/s, 5 m is not 5 cm), with its own
exponent, which is never the number's (15 cm^2 is not 225).  Words that stand behind a number and are in no table
(`16 daps`) are a unit by name; words that change what is said (million, not, or more, ...) are none.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from .notation import words
from .tokens import NotRead, Token, canonical


class Unit(NamedTuple):
    name: str
    factor: Fraction = Fraction(1)
    dimension: tuple[tuple[str, int], ...] | None = None  # None: known by its name only

    def __str__(self) -> str:
        return self.name


# name(s), factor, dimension.  A `+` allows the prefixes of the SI.
_TABLE = """
m+ metre+ meter+            1               m
g+ gram+ gramme+            1/1000          kg
s+ sec second+              1               s
min minute                  60              s
h hr hour                   3600            s
d day                       86400           s
week                        604800          s
month                       1               month
year yr                     1               year
A+ ampere+ amp              1               A
K+ kelvin+                  1               K
mol+ mole+                  1               mol
cd candela                  1               cd
N+ newton+                  1               kg m s-2
J+ joule+                   1               kg m2 s-2
W+ watt+                    1               kg m2 s-3
Pa+ pascal+                 1               kg m-1 s-2
Hz+ hertz+                  1               s-1
C+ coulomb+                 1               A s
V+ volt+                    1               kg m2 s-3 A-1
ohm+ Omega+                 1               kg m2 s-3 A-2
F+ farad+                   1               kg-1 m-2 s4 A2
T+ tesla+                   1               kg s-2 A-1
H+ henry+                   1               kg m2 s-2 A-2
Wb+ weber+                  1               kg m2 s-2 A-1
S+ siemens+                 1               kg-1 m-2 s3 A2
Bq+ becquerel+              1               s-1
M+ molar                    1000            mol m-3
L+ l+ liter+ litre+         1/1000          m3
Nm+                         1               kg m2 s-2
Wh+                         3600            kg m2 s-2
Ah+                         3600            A s
eV+ electronvolt+           1.602176634e-19 kg m2 s-2
cal+ calorie+               4.184           kg m2 s-2
atm atmosphere              101325          kg m-1 s-2
bar+                        100000          kg m-1 s-2
torr mmHg                   101325/760      kg m-1 s-2
u amu                       1.66053907e-27  kg
angstrom AA                 1e-10           m
in inch inches              0.0254          m
ft foot feet                0.3048          m
yd yard                     0.9144          m
mi mile                     1609.344        m
mph                         0.44704         m s-1
kmh kph kmph                5/18            m s-1
rev revolution              1               rev
rpm                         1/60            rev s-1
acre                        4046.8564224    m2
pound lb                    0.45359237      kg
ounce oz                    0.028349523125  kg
ton tonne t                 1000            kg
gallon                      1               gallon
dollar USD buck             1               dollar
cent                        0.01            dollar
euro EUR                    1               euro
rupee Rs INR                1               rupee
rad radian                  1               rad
degC celsius                1               celsius
degF fahrenheit             1               fahrenheit
degree deg                  1               degree
arcminute arcmin            1/60            degree
arcsecond arcsec            1/3600          degree
percent                     1               percent
"""
_PREFIXES = {
    "p": -12, "n": -9, "μ": -6, "mu": -6, "m": -3, "c": -2, "d": -1, "h": 2, "k": 3, "M": 6, "G": 9, "T": 12, "f": -15,
    "pico": -12, "nano": -9, "micro": -6, "milli": -3, "centi": -2, "deci": -1, "hecto": 2, "kilo": 3, "mega": 6,
    "giga": 9, "tera": 12,
}  # fmt: skip
_UNNAMED = {  # "5 square units" is 5 of whatever squares the question speaks of
    "unit": 1, "units": 1, "squareunits": 2, "square units": 2, "sq units": 2, "sq.units": 2, "units^2": 2,
    "cubicunits": 3, "cubic units": 3, "units^3": 3,
}  # fmt: skip

# Behind a number they change its value or its sense, so they are no unit.
_NO_UNITS = words(
    "not no none or and nor but than more alternatively perhaps maybe possibly either otherwise unless instead "
    "less fewer at least most over under above below about between to from up except excluding including if "
    "when where with without times plus minus negative positive squared cubed factorial root mod modulo "
    "remainder base power of am pm x y z twice double triple doubled halved tripled "
    "bc ad undefined infinite solution solutions th st nd rd true false yes only is are was be nonzero maximum "
    "minimum max min"
)
_COUNTS = re.compile(  # ten, tenths, tens, twentieth, dozens: more numbers, which none of the table's units is
    r"(?:half|halves?|quarters?|thirds?|fourths?|zero|one|two|three|four|five|nine|twelve|"
    r"(?:fif|six|seven|eigh|nin|ten|eleven|twelf|(?:thir|four|fif|six|seven|eigh|nine)teen|"
    r"(?:twen|thir|for|fif|six|seven|eigh|nine)t(?:y|ie)|hundred|thousand|million|billion|trillion|dozen|lakh|crore|"
    r"eight)(?:th)?s?)"
)
# What a number before them is multiplied by.
MAGNITUDES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


def _table() -> dict[str, Unit]:
    found = {}
    for line in _TABLE.strip().splitlines():
        *names, factor, dimension = _fields(line)
        for name in names:
            plain = name.rstrip("+")
            unit = Unit(plain, Fraction(factor), dimension)
            for spelled in (plain, plain + "s") if len(plain) > 2 else (plain,):
                found.setdefault(spelled, unit)
            if name.endswith("+"):
                for prefix, power in _PREFIXES.items():
                    if (len(prefix) > 2) == (len(plain) > 3 and plain.islower()):
                        scaled = unit._replace(name=prefix + plain, factor=unit.factor * Fraction(10) ** power)
                        for spelled in (plain, plain + "s") if len(plain) > 3 else (plain,):
                            found.setdefault(prefix + spelled, scaled)
    return found


def _fields(line: str) -> tuple:
    names, factor, dimension = [], None, {}
    for field in line.split():
        if factor is None and field[0].isdigit():
            factor = field
        elif factor is None:
            names.append(field)
        else:
            base = field.rstrip("-0123456789")
            dimension[base] = int(field[len(base) :] or 1)
    return (*names, factor, tuple(sorted(dimension.items())))


KNOWN = _table()
DEGREE, PERCENT, DOLLAR, EURO = KNOWN["degree"], KNOWN["percent"], KNOWN["dollar"], KNOWN["euro"]
POUND_STERLING, YEN = Unit("£", Fraction(1), (("£", 1),)), Unit("¥", Fraction(1), (("¥", 1),))
# Commands of siunitx that a unit may begin with.
MACROS = frozenset(
    {"AA"}
    | {name for name in KNOWN if len(name) > 3 and name.islower()}
    | {p for p in _PREFIXES if len(p) > 3}
    | {"per", "cubic", "square"}
)
# Letters that stand for a unit in plain text where a blank sets them off; g and h are left to gravity and heights.
PLAIN_LETTERS = frozenset("mskNJWVKACLTM")


def read(tokens) -> Unit | None:
    """The unit that these tokens are, from the first to the last; else None."""
    name = canonical(tokens).strip(" .")
    if name.lower() == "per cent":
        return PERCENT
    if name.lower() in _UNNAMED:
        return Unit(name, dimension=(("unit", _UNNAMED[name.lower()]),))
    try:
        factor, dimension = _Product(tokens).read()
        return Unit(name, factor, tuple(sorted((base, n) for base, n in dimension.items() if n)))
    except NotRead:
        pass
    nouns = [token for token in tokens if token.text not in ("-", ".")]
    named = all(
        (token.kind == "word" and token.text.isalpha()) or (token.kind == "letter" and token.upright) for token in nouns
    )
    texts = [token.text.lower() for token in nouns]
    if nouns and named and len(nouns) <= 5 and not _NO_UNITS & set(texts) and not any(map(_COUNTS.fullmatch, texts)):
        return Unit(" ".join(text.removesuffix("s") for text in texts))
    return None


class _Product:
    """A product of units with their exponents.  Raises NotRead for any token that belongs to none."""

    def __init__(self, tokens, depth: int = 0):
        self.tokens, self.at, self.depth = tokens, 0, depth
        if depth > 4:
            raise NotRead("a unit too deep")

    def text(self) -> str:
        return self.tokens[self.at].text.strip().removeprefix("\\") if self.at < len(self.tokens) else ""

    def take(self, *texts: str) -> str:
        found = self.text()
        if found and found in texts:
            self.at += 1
            return found
        return ""

    def read(self) -> tuple[Fraction, dict[str, int]]:
        factor, dimension = Fraction(1), {}
        if not self.tokens:
            raise NotRead("no unit")
        if self.text() == "1" and len(self.tokens) > 1 and self.tokens[1].text == "/":
            self.at += 1
        below = False
        while self.at < len(self.tokens):
            sign = -1 if self.take("/", "per") else 1
            ahead = {"square": 2, "sq": 2, "cubic": 3}.get(self.take("square", "sq", "cubic"), 1)
            self.take(".")
            part, inner = self.base()
            power = sign * ahead * self.exponent()
            power = -power if below and sign == 1 and power > 0 else power  # J/mol K is J/(mol K)
            below = below or sign == -1
            power *= {"squared": 2, "cubed": 3}.get(self.take("squared", "cubed"), 1)
            factor *= part**power
            for base, n in inner.items():
                dimension[base] = dimension.get(base, 0) + n * power
            self.take("*", ".", "-")
        return factor, dimension

    def base(self) -> tuple[Fraction, dict[str, int]]:
        if self.at >= len(self.tokens):
            raise NotRead("a unit that ends too early")
        token, text = self.tokens[self.at], self.text()
        self.at += 1
        if token.kind == "frac":
            above, below = (_Product(items, self.depth + 1).read() if canonical(items) != "1" else (Fraction(1), {})
                            for items in token.items)  # fmt: skip
            return above[0] / below[0], {
                base: above[1].get(base, 0) - below[1].get(base, 0) for base in {**above[1], **below[1]}
            }
        if token.kind == "group":
            return _Product(token.items, self.depth + 1).read()
        if text == "(":
            end = next((i for i in range(self.at, len(self.tokens)) if self.tokens[i].text == ")"), None)
            if end is None:
                raise NotRead("a bracket that does not close")
            inner, self.at = self.tokens[self.at : end], end + 1
            return _Product(inner, self.depth + 1).read()
        if text == "^" and self.take("circ"):
            text = {"C": "celsius", "F": "fahrenheit"}.get(self.take("C", "F"), "degree")
        elif text in ("circ", "%"):
            text = {"circ": "degree", "%": "percent"}[text]
        elif token.kind not in ("word", "letter", "command"):
            raise NotRead("no unit")
        elif text + self.text() in KNOWN and text in _PREFIXES and (text == "mu" or len(text) > 3):  # \mu m, \kilo\gram
            text += self.text()
            self.at += 1
        elif text == "Omega":
            text = "ohm"
        else:
            while (
                token.kind in ("letter", "word") and self.at < len(self.tokens) and _continues(self.tokens[self.at])
            ):  # mJ
                text += self.text()
                self.at += 1
        unit = KNOWN.get(text) or (KNOWN.get(text.lower()) if len(text) > 3 else None)
        if unit is None:
            raise NotRead("no unit")
        return unit.factor, dict(unit.dimension)

    def exponent(self) -> int:
        if self.text() != "^" or (
            self.at + 1 < len(self.tokens) and canonical(self.tokens[self.at + 1 : self.at + 2]).strip() == r"\circ"
        ):
            return 1
        self.at += 1
        sign = self.take("-", "+")
        found = sign + canonical(self.tokens[self.at : self.at + 1]).strip("{}")
        self.at += 1
        if not found.lstrip("+-").isdigit() or not found.isascii() or len(found) > 3:
            raise NotRead("a unit's exponent")
        return int(found)


def _continues(token: Token) -> bool:
    """Whether a letter belongs to the name before it: plain text has letters one by one."""
    return not token.blank and ((token.kind == "letter" and not token.upright) or token.text == r"\Omega")


def same(a: Unit, b: Unit) -> bool | Fraction:
    """The factor by which a number in `b` is multiplied to be one in `a`; False if they measure other things."""
    for one, other in ((a, b), (b, a)):
        if one.dimension and one.dimension[0][0] == "unit" and other.dimension == (("m", one.dimension[0][1]),):
            return Fraction(1)
    if a.dimension is not None and b.dimension is not None:  # nM is not nm
        if b.dimension == DEGREE.dimension and a.dimension in (
            KNOWN["celsius"].dimension,
            KNOWN["fahrenheit"].dimension,
        ):
            return Fraction(1)  # 20 degrees, of those that the question speaks of
        return a.dimension == b.dimension and b.factor / a.factor
    plain = [unit.name.lower().removesuffix("s") for unit in (a, b)]
    return Fraction(1) if plain[0] == plain[1] else False
