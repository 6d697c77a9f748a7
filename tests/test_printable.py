"""Nothing that a terminal obeys gets through."""

from __future__ import annotations

import io
import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from secagg import errors
from secagg.cli import show
from secagg.errors import AuthenticationError, DataError, SecaggError
from secagg.printable import PrintableFormatter, printable

# Moves the cursor up and rubs out, sets the title, rings, hides, turns the direction round, starts a line.
ATTACKS = ["\x1b[3A\x1b[2K", "\x1b]0;title\x07", "\x9b2J", "\r", "\n", "\x08", "\u202e", "\u2066", "\u200b", "\ufeff",
           "\u2028", "\xad", "\x7f", "\udcff", "\ue000", "\xa0", "\ufe0f", "\u3164", "\U000e0041"]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=ascii)
def test_what_a_terminal_obeys_is_shown_as_an_escape(attack: str) -> None:
    shown = printable(f"before{attack}after")
    assert shown.isprintable()
    assert attack not in shown
    assert shown.startswith("before\\")
    assert shown.endswith("after")


@given(st.text())
def test_every_text_becomes_one_line_without_control_or_format_characters(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(c)[0] for c in shown} & {"C"}
    assert not any(unicodedata.category(c) in ("Zl", "Zp") for c in shown)
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown


def test_what_people_write_stays_as_it_is() -> None:
    text = "Zürich, 東京, Ωμέγα, a\\b 'c' \"d\" 1–2 €"
    assert printable(text) is text or printable(text) == text
    assert printable("abcdef", 3) == "abc..."


@pytest.mark.parametrize("kind", [getattr(errors, name) for name in errors.__all__])
def test_every_error_is_printable_and_keeps_only_its_own_line_ends(kind: type[SecaggError]) -> None:
    assert str(kind("a\nb\x1b[2J")) == "a\\nb\\x1b[2J"
    assert str(kind("first\r", "second\n")) == "first\\r\nsecond\\n"


def test_an_error_of_a_peer_keeps_its_name() -> None:
    assert AuthenticationError("text", peer="north").peer == "north"


def test_a_log_entry_is_one_line_and_so_is_each_of_its_traceback() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PrintableFormatter("secagg: %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning("from %s", "a peer\nsecagg: forged\x1b[2J")
    try:
        raise ValueError("bad\x1b[2J")
    except ValueError:
        logger.exception("it failed")
    first, second, *traceback = stream.getvalue().splitlines()
    assert first == "secagg: from a peer\\nsecagg: forged\\x1b[2J"
    assert second == "secagg: it failed"
    assert traceback[-1] == "ValueError: bad\\x1b[2J"


@pytest.mark.parametrize("attack", ATTACKS, ids=ascii)
def test_a_console_shows_escapes_whatever_it_is_given(
    attack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for made in (show.stdout(), show.stderr()):
        show.say(made, f"said {attack}")
        made.print(Text(f"text {attack}"))
        made.print(show.table(f"title {attack}", [f"column {attack}"], [[f"cell {attack}"]]))
    show.complain(DataError(f"table {attack}", f"  row {attack}"))
    printed = "".join(capsys.readouterr())
    assert all(line.isprintable() for line in printed.split("\n"))
    if attack != "\n":
        assert attack not in printed


def test_a_console_still_sends_its_own_codes() -> None:
    stream = io.StringIO()
    made = show.PrintableConsole(file=stream, force_terminal=True, color_system="standard")
    made.print(Text("red", style="red"))
    plain = io.StringIO()
    Console(file=plain, force_terminal=True, color_system="standard").print(Text("red", style="red"))
    assert stream.getvalue() == plain.getvalue() == "\x1b[31mred\x1b[0m\n"
