"""Bring identifiers into the spelling in which organisations compare them.

Organisations compare identifiers byte by byte, under a keyed hash. Two spellings of one account never meet,
and one text that means "missing" at two banks does. The parties agree on a rule for each identifier:

    exact       as it stands, without surrounding whitespace
    folded      compatibility forms and case are one: Unicode NFKC of the full case folding; invisible
                characters are removed, a run of whitespace is one space
    iban        ISO 13616: upper case without spaces, hyphens and dots; form, length and check digits hold
    digits      the digits alone; spaces and . - / _ ( ) between them are removed, anything else is refused
    stdnum:X.Y  a national number, such as stdnum:nl.bsn, by python-stdnum's module X.Y (extra `identifiers`)

Under every rule, Unicode's normal form is NFC at least, and a space of another kind (no-break, thin) inside
an identifier is a space. Under every rule, these are refused:

    texts that stand for a missing value, unless the parties list them as real
    numbers that a spreadsheet or a float has damaged
    control characters, characters that Unicode does not assign, and U+FFFD, which a wrong encoding leaves
    under `exact`, invisible characters
    under `exact` and `folded`, an IBAN in another spelling than its electronic one, which would meet nobody else's

An identifier of several columns is their canonical texts joined by ":". A ":" or "\\" inside one has a "\\"
in front, so that ("1:2", "3") and ("1", "2:3") stay apart. An identifier of one column holds no such mark.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from secagg.errors import UsageError

__all__ = ["RULES", "Rule", "escaped", "looks_like_iban"]

RULES: Final = "exact, folded, iban, digits, or stdnum:X.Y such as stdnum:nl.bsn"

_MISSING: Final = "is missing"
_STANDS_FOR_NONE: Final = "stands for no identifier (as NULL, N/A, true or -)"
_CUT: Final = "is a number in scientific notation, which has lost its digits; export the column as text"
_FLOAT: Final = "is a whole number with decimals, as a float has it; export the column as text or as integers"
_FORMULA: Final = 'is a spreadsheet\'s formula ="..."; export the column as text'
_CONTROL: Final = "holds a control character"
_INVISIBLE: Final = "holds an invisible character; remove it, or agree on another rule than exact"
_SPELT_IBAN: Final = "is an IBAN that others spell otherwise"
_REPLACED: Final = "holds U+FFFD, which a wrong encoding leaves; read the table in its own"
_UNASSIGNED: Final = f"holds a character that Unicode {unicodedata.unidata_version} does not assign"

# What programs write where there is no value; compared without case.
_NULLS: Final = frozenset(
    r"""null nil none nan na n/a n.a. n.a n\a #n/a #na #null! #value! #ref! #name? #num! #div/0! nat inf -inf +inf
    infinity -infinity -nan -1.#ind 1.#qnan #n/a!n/a <na> <nat> <nan> <null> <none> <n/a> (null) (none) (n/a) (na) (blank)
    (empty) [null] [none] {null} \n undefined unknown missing empty blank void not_available not-available
    notavailable unspecified n/k n/d nd tbd true false""".split()  # noqa: SIM905
) | {"not available", "not applicable", "not known", "no value", "no data"}  # fmt: skip
_DAMAGED: Final = re.compile(
    r"""(?P<cut>[+-]?[0-9]+(?:[.,][0-9]+)?[eE][+-][0-9]+|[+-]?[0-9]+[.,][0-9]+[eE][0-9]+)
      |(?P<float>[+-]?[0-9]+[.,]0+)
      |(?P<formula>="[^"]*")
      |(?P<none>(?:[^\w]|_)*)""",
    re.VERBOSE,
)
_REASONS: Final = {"cut": _CUT, "float": _FLOAT, "formula": _FORMULA, "none": _STANDS_FOR_NONE}
_LINE_BREAKS: Final = "\t\n\r"
# Many texts at once, one a line, of which a rule keeps all or changes the case alone. Each has a digit, and nothing that
# makes a number or a formula a damaged one.
_CHUNK: Final = 64
_PLAIN: Final = r"(?![0-9]+[eE]-)(?=[A-Za-z_:/#-]*[0-9])[A-Za-z0-9]%s"
_AS_THEY_ARE: Final = {
    "exact": re.compile(rf"(?:{_PLAIN % '(?:[A-Za-z0-9 _:/#-]*[A-Za-z0-9_:/#-])?'}\n)+"),
    "folded": re.compile(rf"(?:{_PLAIN % '[A-Za-z0-9_:/#-]*'}\n)+"),
    "digits": re.compile(r"(?:[0-9]+\n)+"),
}

_STDNUM: Final = re.compile(r"stdnum:([a-z]{2}_?|[a-z][a-z0-9]*)(?:\.([a-z][a-z0-9_]*))?")
_IBAN: Final = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")
_IBAN_SPACING: Final = re.compile(r"[\s.-]+")
_DIGITS_SPACING: Final = re.compile(r"[\s./_()-]+")
# The length of each country's IBAN, from the SWIFT registry; of others only form and check digits are checked.
_IBAN_LENGTHS: Final = {
    entry[:2]: int(entry[2:])
    for entry in (  # noqa: SIM905
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 "
        "EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 "
        "KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 "
        "PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 "
        "UA29 VA22 VG24 XK20 YE30"
    ).split()
}
# Among many texts, a line that begins like an IBAN and is not in the spelling that the rule keeps of one. Spacing may stand
# between any two characters, as `_without_spacing` has it.
_LIKE_IBAN: Final = (
    r"\n(?:[iI][ -]*[bB][ -]*[aA][ -]*[nN][ -]*:?|(?!%s*\n))[ -]*[A-Za-z][ -]*[A-Za-z][ -]*[0-9][ -]*[0-9]"
)
_SUSPECT: Final = {
    "exact": re.compile(_LIKE_IBAN % "[0-9A-Z]"),
    "folded": re.compile(_LIKE_IBAN % "[0-9A-Za-z]"),
}
_LEADING_DIGITS: Final = {"AD": 8, "AE": 19, "BA": 16, "BE": 12, "DE": 18, "EE": 16}
_LETTERS: Final = {ord("A") + i: str(10 + i) for i in range(26)}


class _Refused(Exception):  # noqa: N818  # never leaves this module
    """Why a text cannot be an identifier."""


@dataclass(frozen=True)
class Rule:
    """How the texts of an identifier are spelt when organisations compare them.

    Args:
      name: as in the module's list.
      real: texts that would stand for no identifier and are real ones here.

    Raises:
      UsageError: there is no such rule, or python-stdnum or its module is not there.
    """

    name: str = "exact"
    real: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _ = self._spell
        _ = self._real

    @property
    def single(self) -> bool:
        """Whether the rule is about one column and not a joined identifier."""
        return self.name not in ("exact", "folded", "digits")

    @property
    def agreed(self) -> str:
        """Return the rule with everything that decides what it does, for parties to compare."""
        if not self.name.startswith("stdnum:"):
            return self.name
        return f"{self.name} of python-stdnum {importlib.metadata.version('python-stdnum')}"

    def spell(self, texts: Sequence[str]) -> tuple[list[str], dict[int, str]]:
        """Return the canonical spelling of each text, and by place why a text is none; its spelling is "" then."""
        spelt: list[str] = []
        refused: dict[int, str] = {}
        plain, suspect = _AS_THEY_ARE.get(self.name), _SUSPECT.get(self.name)
        for start in range(0, len(texts), _CHUNK):
            chunk = texts[start : start + _CHUNK]
            lines = "\n".join((*chunk, ""))
            slowly: Iterable[int] = range(len(chunk))
            if plain is not None and plain.fullmatch(lines) and lines.count("\n") == len(chunk):
                spelt += lines.lower().split("\n")[:-1] if self.name == "folded" else chunk
                hits = suspect.finditer(f"\n{lines}") if suspect is not None else ()
                slowly = [lines.count("\n", 0, hit.start()) for hit in hits]
            else:
                spelt += chunk
            for place in slowly:
                text = chunk[place]
                try:
                    electronic = self.name == "iban" and _IBAN.fullmatch(text) is not None
                    spelt[start + place] = _checked_iban(text) if electronic else self._canonical(text)
                except _Refused as why:
                    spelt[start + place] = ""
                    refused[start + place] = str(why)
        return spelt, refused

    def _canonical(self, text: str) -> str:
        clean = _cleaned(text, keep_invisible=self.name != "exact")
        # In full-width letters and digits it is the same text.
        probe = clean if clean.isascii() else unicodedata.normalize("NFKC", clean)
        damaged = _DAMAGED.fullmatch(probe)
        if damaged or probe.casefold() in _NULLS:
            canonical = self._unless_refused(clean)
            if canonical is None or canonical not in self._real:
                why = _REASONS[str(damaged.lastgroup)] if damaged else _STANDS_FOR_NONE
                raise _Refused(why if clean else _MISSING)
            return canonical
        canonical = self._spell(clean)
        if self.name in _SUSPECT:
            electronic = _registered_iban(clean)
            if electronic is not None and canonical != self._spell(electronic):
                raise _Refused(_SPELT_IBAN)
        return canonical

    def _unless_refused(self, clean: str) -> str | None:
        try:
            return self._spell(clean)
        except _Refused:
            return None

    @cached_property
    def _real(self) -> frozenset[str]:
        cleaned = []
        for text in self.real:
            try:
                cleaned.append(_cleaned(text, keep_invisible=self.name != "exact"))
            except _Refused as why:
                raise UsageError(f"the real identifier {text!r:.80} {why}") from None
        return frozenset(filter(None, map(self._unless_refused, cleaned)))

    @cached_property
    def _spell(self) -> Callable[[str], str]:
        known: dict[str, Callable[[str], str]] = {
            "exact": str,
            "folded": _folded,
            "iban": _iban,
            "digits": _digits,
        }
        if self.name in known:
            return known[self.name]
        match = _STDNUM.fullmatch(self.name)
        if match is None:
            raise UsageError(f"expected a rule of {RULES}; got {self.name!r:.80}")
        return _national(self.name, ".".join(filter(None, match.groups())))


def _cleaned(text: str, *, keep_invisible: bool) -> str:
    """Return the text in NFC, trimmed, with spaces of one kind; raises `_Refused` for characters that cannot stand."""
    text = text.strip()
    if text.isascii() and text.isprintable():
        return text
    text = unicodedata.normalize("NFC", text)
    kept = []
    for character in text:
        category = unicodedata.category(character)
        if category in ("Zs", "Zl", "Zp"):
            kept.append(" ")
        elif category == "Cc" and character not in _LINE_BREAKS:
            raise _Refused(_CONTROL)
        elif category == "Cn":
            raise _Refused(_UNASSIGNED)
        elif character == "\ufffd":
            raise _Refused(_REPLACED)
        elif _is_invisible(character, category):
            if not keep_invisible:
                raise _Refused(_INVISIBLE)
        else:
            kept.append(character)
    # Without what stood between them, characters may compose.
    return unicodedata.normalize("NFC", "".join(kept).strip())


def _is_invisible(character: str, category: str) -> bool:
    # Format characters; and those marks and fillers that show nothing: Unicode's default-ignorable code points.
    return (
        category == "Cf"
        or character in "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
    )


def _folded(clean: str) -> str:
    if clean.isascii():
        folded = clean.lower()
    else:
        # Unicode 3.13, definition D146: compatibility caseless matching.
        folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFD", clean).casefold())
        folded = unicodedata.normalize("NFKC", folded.casefold())
    return " ".join(folded.split())


def _without_spacing(clean: str) -> str:
    text = _IBAN_SPACING.sub("", unicodedata.normalize("NFKC", clean)).upper()
    return text.removeprefix("IBAN").removeprefix(":")


def _iban(clean: str) -> str:
    text = _without_spacing(clean)
    if not _IBAN.fullmatch(text):
        raise _Refused(
            "is no IBAN: two letters, two check digits, then 11 to 30 letters and digits are expected"
        )
    return _checked_iban(text)


def _registered_iban(text: str) -> str | None:
    """Return an IBAN of a country whose length is known in its electronic form, None for any other text."""
    compact = _without_spacing(text)
    if len(compact) != _IBAN_LENGTHS.get(compact[:2]):
        return None
    # Countries whose codes are hexadecimal digits too: a hash is to be taken for no IBAN.
    digits = compact[4 : 4 + _LEADING_DIGITS.get(compact[:2], 0)]
    if digits and not digits.isdigit():
        return None
    try:
        return _iban(text)
    except _Refused:
        return None


def _checked_iban(text: str) -> str:
    """Return the text, which has an IBAN's form, if its length and check digits hold."""
    length = _IBAN_LENGTHS.get(text[:2], len(text))
    if len(text) != length:
        raise _Refused(f"is no IBAN: {text[:2]} has {length} characters")
    # 00, 01 and 99 are never issued, and each would be a second spelling of 97, 98 or 02.
    if text[2:4] in ("00", "01", "99") or int((text[4:] + text[:4]).translate(_LETTERS)) % 97 != 1:
        raise _Refused("is no IBAN: its check digits do not hold")
    return text


def _digits(clean: str) -> str:
    text = unicodedata.normalize("NFKC", clean)
    if text.startswith(("-", "\u2212")):
        raise _Refused("is a negative number, and digits are expected")
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(character, character)) for character in text)
    text = _DIGITS_SPACING.sub("", text)
    if not (text.isascii() and text.isdigit()):
        raise _Refused("holds something else than digits and what separates them")
    return text


def _national(name: str, module: str) -> Callable[[str], str]:
    try:
        invalid: Any = importlib.import_module("stdnum.exceptions").ValidationError
    except ImportError:
        raise UsageError(f"the rule {name} takes python-stdnum: pip install 'secagg[identifiers]'") from None
    try:
        scheme: Any = importlib.import_module(f"stdnum.{module}")
    except ImportError:
        raise UsageError(f"python-stdnum has no module {module}, which the rule {name} names") from None
    if not callable(getattr(scheme, "validate", None)):
        raise UsageError(f"python-stdnum's {module} is no kind of number; name one such as stdnum:nl.bsn")

    def spell(clean: str) -> str:
        try:
            return str(scheme.validate(unicodedata.normalize("NFKC", clean)))
        except invalid:
            raise _Refused(f"is no valid {module}") from None

    return spell


def escaped(part: str) -> str:
    """Return the text of one column as it stands, between ":", in an identifier of several; others never give the same."""
    return part.replace("\\", "\\\\").replace(":", "\\:")


def looks_like_iban(text: str) -> bool:
    """Return whether a text is an IBAN in whatever spelling."""
    try:
        _iban(text)
    except _Refused:
        return False
    return True
