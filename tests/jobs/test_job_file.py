"""Job files: every mistake is named by file, line and field; the digest covers what is agreed and nothing else.

The module is long because each mistake that a job file can hold is a row of its tables.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
import tomllib
import zoneinfo
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.data.conventions import Conventions
from secagg.errors import JobError
from secagg.jobs.job import Job, Window
from secagg.jobs.job_file import load_job, parse_job
from secagg.jobs.job_parties import parse_address
from secagg.jobs.parameters import read_parameters
from secagg.network.identity import create_identity
from secagg.patterns.banking import COLLECTORS, STRUCTURING
from secagg.patterns.parameters import shown_parameters
from secagg.patterns.registry import find, names
from secagg.toml_files import FieldFault, line_of

GOOD = """\
name = "september"
pattern = "collectors"
pad_rows_to = 100

[parameters]
min_senders = 5
min_total = 12000.50  # units

[window]
start = 2026-09-01
end = 2026-10-01T00:00:00Z

[[parties]]
name = "north"
address = "127.0.0.1:7401"
certificate = "north.crt"

[[parties]]
name = "south"
address = "mpc.south.example:7402"
certificate = "south.crt"

[[parties]]
name = "west"
address = "[::1]:7403"
certificate = "west.crt"

[roles]
input = ["north", "south"]
computing = ["north", "south", "west"]

[timeouts]
connect_s = 20
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("north", "south", "west"):
        create_identity(name).save(folder)
    create_identity("east").save(folder)
    create_identity("north").save(folder / "new")
    return folder


def parse(text: str, folder: Path) -> Job:
    return parse_job(text, file=folder / "job.toml")


def changed(old: str, new: str, count: int = 1) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, count)


def test_a_good_file_says_what_it_says(folder: Path) -> None:
    job = parse(GOOD, folder)
    assert (job.name, job.pattern.name, job.pad_rows_to) == ("september", "collectors", 100)
    assert (job.parameters.min_senders, job.parameters.min_banks) == (5, 2)
    assert job.parameters.min_total_cents == 1_200_050
    assert job.window == Window(1788220800.0, 1790812800.0, timestamps=True)
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    assert job.window.shown()["start"] == "2026-09-01T00:00:00+00:00"
    assert job.window.shown(berlin)["start"] == "2026-09-01T02:00:00+02:00"
    earliest = Window(-62135596800.0, timestamps=True)  # of which New York is a year before the first
    assert earliest.shown(zoneinfo.ZoneInfo("America/New_York")) == {"start": "0001-01-01T00:00:00+00:00"}
    assert job.roster == ("north", "south", "west")
    assert job.input_parties == ("north", "south")
    assert job.computing_parties == ("north", "south", "west")
    assert [m.address for m in job.members] == [
        ("127.0.0.1", 7401),
        ("mpc.south.example", 7402),
        ("::1", 7403),
    ]
    assert (job.timeouts.connect_s, job.timeouts.silence_s) == (20, 15)
    assert len(job.digest) == 32
    assert [peer.name for peer in job.peers()] == ["north", "south", "west"]


@pytest.mark.parametrize(
    ("old", "new", "field", "line", "says"),
    [
        ('name = "september"\n', "", "name", 0, "missing"),
        ('"september"', '"Sept 2026"', "name", 1, "letters, digits"),
        ('"september"', '"../escape"', "name", 1, "letters, digits"),
        ('"september"', "9", "name", 1, "expected str, got int"),
        ('"collectors"', '"colectors"', "pattern", 2, "collectors, structuring"),
        ("pad_rows_to = 100", "pad_rows_to = 0", "pad_rows_to", 3, "1 or more"),
        ("pad_rows_to = 100", "round_rows = 100", "round_rows", 3, "no such field"),
        ("pad_rows_to = 100", "pad_rows_to = 100\nmax_rows = 99", "max_rows", 4, "which is 100, got 99"),
        ("pad_rows_to = 100", "max_rows = 0", "max_rows", 3, "at least pad_rows_to"),
        ("min_senders = 5", "min_sender = 5", "parameters.min_sender", 6, "min_senders, min_banks, min_total"),
        ("min_senders = 5", "min_senders = 0", "parameters.min_senders", 6, ">= 1, got 0"),
        ("min_senders = 5", 'min_senders = "5"', "parameters.min_senders", 6, "expected int, got str"),
        ("min_senders = 5", "min_senders = true", "parameters.min_senders", 6, "expected int, got bool"),
        ("min_senders = 5", "min_senders = 5.5", "parameters.min_senders", 6, "expected int"),
        ("min_senders = 5", "min_banks = 4", "parameters", 5,
         "min_banks = 4 is out of reach, because 2 parties put in data; lower min_banks to 2 or less"),
        ("12000.50", "12000.505", "parameters.min_total", 7, "2 decimals"),
        ("12000.50", "-1", "parameters.min_total", 7, ">= 0 cents, got -100"),
        ("12000.50", '"12000"', "parameters.min_total", 7, "an amount such as"),
        ("12000.50", "nan", "parameters.min_total", 7, "at most"),
        ("12000.50", "inf", "parameters.min_total", 7, "at most"),
        ("12000.50", "1e400", "parameters.min_total", 7, "at most"),
        ("12000.50", "1e-400", "parameters.min_total", 7, "2 decimals"),
        ("[parameters]", "[parameter]", "parameter", 5, "no such field"),
        ("start = 2026-09-01", "start = 2026-10-01", "window", 9, "end after the start"),
        ("start = 2026-09-01", "start = 5", "window", 9, "two numbers or two timestamps"),
        ("start = 2026-09-01", 'start = "September"', "window.start", 10, "a number or a timestamp"),
        ("start = 2026-09-01", "start = inf", "window.start", 10, "a number or a timestamp"),
        ("start = 2026-09-01", "start = true", "window.start", 10, "a number or a timestamp"),
        ("start = 2026-09-01", "start = 07:30:00", "window.start", 10, "a number or a timestamp"),
        ("start = 2026-09-01", "begin = 2026-09-01", "window.begin", 10, "no such field"),
        ('name = "south"', 'name = "so uth"', "parties[1].name", 19, "letters, digits"),
        ('name = "south"', 'name = "north"', "parties[1].certificate", 21, "expected a certificate for north"),
        ('name = "south"\n', "", "parties[1].name", 18, "missing"),
        ('"mpc.south.example:7402"', '"mpc.south.example"', "parties[1].address", 20, "host:port"),
        ('"mpc.south.example:7402"', '":7402"', "parties[1].address", 20, "host:port"),
        ('"mpc.south.example:7402"', '"::1:7402"', "parties[1].address", 20, "host:port"),
        ('"mpc.south.example:7402"', '"south:70000"', "parties[1].address", 20, "host:port"),
        ('"mpc.south.example:7402"', '"127.0.0.1:7401"', "parties[1].address", 20, "north has the same"),
        ('"south.crt"', '"none.crt"', "parties[1].certificate", 21, "No such file"),
        ('"south.crt"', '"south.key"', "parties[1].certificate", 21, "certificate in PEM form"),
        ('"south.crt"', '"east.crt"', "parties[1].certificate", 21, "expected a certificate for south"),
        ('"south.crt"', '"""-----BEGIN CERTIFICATE-----"""', "parties[1].certificate", 21, "PEM"),
        ('certificate = "south.crt"', "fingerprint = 3", "parties[1].fingerprint", 21, "no such field"),
        ('input = ["north", "south"]', 'input = ["north"]', "roles.input", 29, "2 to 255"),
        ('input = ["north", "south"]', 'input = ["north", "north"]', "roles.input", 29, "each party once"),
        ('input = ["north", "south"]', 'input = ["north", "east"]', "roles.input", 29, "'east' is not among"),
        ('input = ["north", "south"]', "input = 2", "roles.input", 29, "expected a list of names, got 2"),
        (', "west"]', "]", "roles.computing", 30, "expected 3 to 4 parties"),
        ('["north", "south", "west"]', '["north", "south", "south"]', "roles.computing", 30, "each party once"),
        ("connect_s = 20", "connect_s = 0", "timeouts.connect_s", 33, "above 0"),
        ("connect_s = 20", "connect_s = inf", "timeouts.connect_s", 33, "above 0"),
        ("connect_s = 20", "connect = 20", "timeouts.connect", 33, "no such field"),
        ("[timeouts]", "pad_rows_to = 3", "roles.pad_rows_to", 32, "before the first"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_file_line_and_field(
    folder: Path, old: str, new: str, field: str, line: int, says: str
) -> None:
    with pytest.raises(JobError) as caught:
        parse(changed(old, new), folder)
    place, text = str(caught.value).split("job.toml", 1)
    assert place == f"{folder}/"
    assert text.startswith(f":{line}: {field}" if line else f": {field}"), text
    assert says in text


def test_two_parties_of_one_name_are_refused(folder: Path) -> None:
    text = changed('name = "south"', 'name = "north"').replace("south.crt", "new/north.crt")
    with pytest.raises(JobError, match=r"parties\[1\]\.name: there is another party of the name north"):
        parse(text, folder)


DATA = """\
[data]
identifiers = {beneficiary = "iban", sender = "folded"}
real_identifiers = ["NA", "Nul\\"l ü"]
currency_decimals = 3
largest_amount = 5000000
time_zone = "Europe/Berlin"

[window]"""


def test_what_the_tables_mean_is_part_of_the_job(folder: Path, tmp_path: Path) -> None:
    job = parse(changed("[window]", DATA), folder)
    assert job.data == Conventions(
        {"beneficiary": "iban", "sender": "folded"}, ("NA", 'Nul"l ü'), 3, 5_000_000, "Europe/Berlin"
    )
    assert job.parameters.min_total_cents == 12_000_500
    assert job.shown_parameters()["min_total"] == "12000.500"
    assert job.window.bounds == (1788220800.0 - 7200, 1790812800.0)
    again = parse(job.to_toml(), tmp_path)
    assert (again, again.digest) == (job, job.digest)


@pytest.mark.parametrize(
    ("line", "field", "says"),
    [
        ('identifiers = "ibn"', "data.identifiers", "exact, folded, iban, digits, or stdnum:X.Y"),
        ('identifiers = "stdnum:os"', "data.identifiers", "no module os"),
        ('identifiers = "stdnum:nl.no_such"', "data.identifiers", "no module nl.no_such"),
        ('identifiers = "stdnum:exceptions"', "data.identifiers", "no kind of number"),
        ('identifiers = "stdnum:../x"', "data.identifiers", "expected a rule"),
        ('identifiers = {customer = "iban"}', "data.identifiers", "transfers have no identifier 'customer'"),
        ('real_identifiers = [""]', "data.real_identifiers", "printable texts of 1 to 64"),
        ('real_identifiers = ["a\\nb"]', "data.real_identifiers", "printable texts"),
        ("currency_decimals = 5", "data.currency_decimals", "0 to 4, got 5"),
        ("currency_decimals = -1", "data.currency_decimals", "0 to 4, got -1"),
        ("largest_amount = 0", "data.largest_amount", "expected 1 to 10000000000000 units"),
        ("largest_amount = 10000000000001", "data.largest_amount", "expected 1 to 10000000000000 units"),
        ("largest_amount = 1.5", "data.largest_amount", "expected int, got float"),
        ('time_zone = "Berlin"', "data.time_zone", "UTC or Europe/Berlin"),
        ('time_zone = "localtime"', "data.time_zone", "UTC or Europe/Berlin"),
        ('time_zone = "Europe/../UTC"', "data.time_zone", "UTC or Europe/Berlin"),
        ('time_zone = "Europe/Atlantis"', "data.time_zone", "UTC or Europe/Berlin"),
        ('zone = "UTC"', "data.zone", "no such field"),
    ],
)
def test_a_mistake_in_what_tables_mean_is_named_by_line_and_field(
    folder: Path, line: str, field: str, says: str
) -> None:
    with pytest.raises(JobError) as caught:
        parse(changed("[window]", f"[data]\n{line}\n\n[window]"), folder)
    assert f"job.toml:10: {field}: " in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        'identifiers = "folded"',
        'identifiers = {sender = "digits"}',
        'identifiers = "stdnum:nl.bsn"',
        'real_identifiers = ["NA"]',
        "currency_decimals = 3",
        "largest_amount = 999",
        'time_zone = "Europe/Berlin"',
    ],
)
def test_the_digest_changes_with_what_the_tables_mean(folder: Path, line: str) -> None:
    # In UTC, so that the zone alone changes and not what the window is.
    good = changed("start = 2026-09-01", "start = 2026-09-01T00:00:00Z")
    other = good.replace("[window]", f"[data]\n{line}\n\n[window]")
    assert parse(other, folder).digest != parse(good, folder).digest


def test_the_digest_changes_with_the_release_of_python_stdnum(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = parse(changed("[window]", '[data]\nidentifiers = "stdnum:nl.bsn"\n\n[window]'), folder)
    before = job.digest
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.1")
    assert job.digest != before


def test_a_job_names_the_extra_that_a_rule_takes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stdnum", None)
    monkeypatch.setitem(sys.modules, "stdnum.exceptions", None)
    with pytest.raises(JobError, match=r"pip install 'secagg\[identifiers\]'"):
        parse(changed("[window]", '[data]\nidentifiers = "stdnum:nl.bsn"\n\n[window]'), folder)


def test_a_window_bound_that_the_clocks_skip_is_refused(folder: Path) -> None:
    text = changed("start = 2026-09-01", "start = 2026-03-29T02:30:00")
    assert parse(text, folder).window.start == 1774751400.0
    with pytest.raises(JobError, match=r"window\.start: 2026-03-29 02:30:00 does not exist in Europe/Berlin"):
        parse(text.replace("[window]", '[data]\ntime_zone = "Europe/Berlin"\n\n[window]'), folder)
    # Clocks that show a time twice mean the first.
    text = changed("start = 2026-09-01", "start = 2025-10-26T02:30:00")
    window = parse(text.replace("[window]", '[data]\ntime_zone = "Europe/Berlin"\n\n[window]'), folder).window
    assert window.start == 1761438600.0


def test_a_party_without_a_role_is_refused(folder: Path) -> None:
    idle = '[[parties]]\nname = "east"\naddress = "east:1"\ncertificate = "east.crt"\n'
    with pytest.raises(JobError, match="roles: east has no role"):
        parse(GOOD + idle, folder)


def test_text_that_is_not_toml_is_named_by_line(folder: Path) -> None:
    with pytest.raises(JobError, match=r"job\.toml: this is not TOML: .*line 7"):
        parse(changed("min_total = ", "min_total: "), folder)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"cannot read the job file .*none\.toml: No such file"):
        load_job(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(JobError, match="UTF-8"):
        load_job(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("september", "october"),
        ("min_senders = 5", "min_senders = 6"),
        ("12000.50", "12000.51"),
        ("pad_rows_to = 100", "pad_rows_to = 101"),
        ("pad_rows_to = 100", "pad_rows_to = 100\nmax_rows = 9999999"),
        ("start = 2026-09-01", "start = 2026-09-02"),
        ("start = 2026-09-01\n", ""),
        ("2026-10-01T00:00:00Z", "2026-10-01T00:00:01Z"),
        ("connect_s = 20", "connect_s = 21"),
        ("connect_s = 20", "silence_s = 20"),
        ("connect_s = 20", "message_s = 20"),
        ('certificate = "north.crt"', 'certificate = "new/north.crt"'),
        ('input = ["north", "south"]', 'input = ["south", "north"]'),
        ('input = ["north", "south"]', 'input = ["north", "south", "west"]'),
        ('["north", "south", "west"]', '["north", "west", "south"]'),
        (
            'pattern = "collectors"\npad_rows_to = 100\n\n[parameters]\nmin_senders = 5\nmin_total = 12000.50',
            'pattern = "structuring"\npad_rows_to = 100\n\n[parameters]\nlimit = 12000.50',
        ),
    ],
)
def test_the_digest_changes_with_everything_that_is_agreed(folder: Path, old: str, new: str) -> None:
    assert parse(changed(old, new), folder).digest != parse(GOOD, folder).digest


def test_max_rows_is_ten_million_unless_the_file_says_otherwise_and_is_kept(folder: Path) -> None:
    assert parse(GOOD, folder).terms.max_rows == 10_000_000
    job = parse(changed("pad_rows_to = 100", "pad_rows_to = 100\nmax_rows = 2500"), folder)
    assert job.terms.max_rows == job.max_rows == 2500
    assert parse(job.to_toml(), folder).digest == job.digest


def test_the_digest_changes_with_the_order_of_the_parties(folder: Path) -> None:
    head, north, south, west_and_rest = GOOD.split("[[parties]]")
    swapped = "[[parties]]".join([head, south, north, west_and_rest])
    assert parse(swapped, folder).digest != parse(GOOD, folder).digest


def test_the_digest_changes_with_the_release(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = parse(GOOD, folder).digest
    monkeypatch.setattr("secagg.release.RELEASE", "9.9.9")
    assert parse(GOOD, folder).digest != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# units", "# of the currency"),
        ("12000.50", "12000.5"),
        ("start = 2026-09-01", 'start = "2026-09-01T00:00:00+00:00"'),
        ("2026-10-01T00:00:00Z", "2026-10-01T02:00:00+02:00"),
        ("min_senders = 5", "min_banks = 2\nmin_senders = 5"),
        ("connect_s = 20", "connect_s = 20.0"),
        ('certificate = "north.crt"', 'certificate = "./north.crt"'),
        ("127.0.0.1:7401", "north.example:443"),
    ],
)
def test_the_digest_does_not_depend_on_writing_paths_and_addresses(folder: Path, old: str, new: str) -> None:
    assert parse(changed(old, new), folder).digest == parse(GOOD, folder).digest


def test_a_certificate_may_stand_in_the_job_file_itself(folder: Path, tmp_path: Path) -> None:
    text = changed('"north.crt"', f'"""\n{(folder / "north.crt").read_text()}"""')
    for name in ("south", "west"):
        (tmp_path / f"{name}.crt").write_bytes((folder / f"{name}.crt").read_bytes())
    assert parse(text, tmp_path).digest == parse(GOOD, folder).digest


def test_two_parties_with_one_certificate_are_refused(folder: Path, tmp_path: Path) -> None:
    # Only a certificate for both names gets that far.
    pem = (folder / "north.crt").read_text()
    text = GOOD.replace('"north.crt"', f'"""\n{pem}"""').replace('"south.crt"', f'"""\n{pem}"""')
    with pytest.raises(JobError, match=r"parties\[1\]\.certificate: expected a certificate for south"):
        parse(text.replace('"west.crt"', f'"{folder}/west.crt"'), tmp_path)


def test_a_job_written_as_toml_reads_back_the_same(folder: Path, tmp_path: Path) -> None:
    for text in (
        GOOD,
        changed("start = 2026-09-01\nend = 2026-10-01T00:00:00Z", "start = -1.5\nend = 200"),
        changed("start = 2026-09-01", "start = 2026-09-01T07:08:09.123456+05:30"),
    ):
        job = parse(text, folder)
        again = parse(job.to_toml(), tmp_path)
        assert again == job
        assert again.digest == job.digest


def test_a_job_without_certificates_can_be_moved_but_not_run(folder: Path, tmp_path: Path) -> None:
    job = parse_job(GOOD, file=tmp_path / "job.toml", with_certificates=False)
    for use in (lambda: job.digest, job.peers, job.to_toml):
        with pytest.raises(JobError, match="north's certificate"):
            use()
    certificates = {m.name: m.certificate for m in parse(GOOD, folder).members if m.certificate}
    addresses = {name: ("127.0.0.1", 1 + i) for i, name in enumerate(job.roster)}
    moved = job.moved(addresses, certificates)
    assert moved.digest == parse(GOOD, folder).digest
    assert [peer.port for peer in moved.peers()] == [1, 2, 3]


@pytest.mark.slow
@given(cents=st.integers(0, 10**13), zeros=st.text("0", max_size=20))
def test_amounts_become_cents_exactly(cents: int, zeros: str) -> None:
    amount = Decimal(f"{cents // 100}.{cents % 100:02}{zeros}")
    assert read_parameters(COLLECTORS, {"min_total": amount}).min_total_cents == cents


@pytest.mark.parametrize(
    ("decimals", "text", "cents"),
    [(0, "20000", 20_000), (0, "20000.0", 20_000), (3, "0.001", 1), (4, "1.0001", 10_001), (1, "7", 70)],
)
def test_parameters_are_in_the_currencys_smallest_unit(decimals: int, text: str, cents: int) -> None:
    parameters = read_parameters(STRUCTURING, {"limit": Decimal(text)}, decimals=decimals)
    assert parameters.limit_cents == cents
    assert parameters.max_cents_per_bank == 10 ** (12 + decimals)
    shown = shown_parameters(parameters, decimals=decimals)
    assert Decimal(shown["limit"]) == Decimal(text)
    assert len(shown["limit"].partition(".")[2]) == decimals
    assert read_parameters(STRUCTURING, {}, decimals=decimals).limit_cents == 10 ** (4 + decimals)
    with pytest.raises(FieldFault, match=f"at most {decimals} decimals"):
        read_parameters(STRUCTURING, {"limit": Decimal(1).scaleb(-decimals - 1)}, decimals=decimals)


@pytest.mark.slow
def test_every_pattern_reads_back_the_parameters_that_it_shows() -> None:
    for pattern in (find(name).pattern for name in names()):
        shown = shown_parameters(pattern.Parameters())
        given = tomllib.loads(
            "".join(f"{name} = {text}\n" for name, text in shown.items()), parse_float=Decimal
        )
        assert read_parameters(pattern, given) == pattern.Parameters()
        assert not any("cents" in name for name in shown)


def test_addresses_read_as_host_and_port() -> None:
    assert parse_address("bank.example:7400") == ("bank.example", 7400)
    assert parse_address("[fe80::1]:7400") == ("fe80::1", 7400)


@pytest.mark.slow
@given(st.text(max_size=200), st.from_regex(r"(parties\[[0-9]\]\.)?[a-z]{1,8}", fullmatch=True))
def test_looking_for_a_line_never_fails(text: str, field: str) -> None:
    assert 0 <= line_of(text, field) <= len(text.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 4000,
        "a = " + "[\n" * 300_000,
        "a = " + "{a = " * 800,
        "a = {a = {a = {a = {a = {a = {a = {a = {a = {a = 1}}}}}}}}}}",
        ".".join("a" * 2000) + " = 1",
        "a = 1\n" + 5000 * "#",
        "a = " + "9" * 4000,
        "a = 9223372036854775808",
        "a = 0x" + "f" * 4000,
        "[parameters]\nmin_total = 1e999999999999999999999",
        "[parameters]\nmin_total = 1e999999999",
        "[parameters]\nmin_total = 1e-999999999",
        "[parameters]\nmin_total = " + "9" * 4000 + ".5",
        "[window]\nstart = 0000-01-01",
        "[window]\nstart = 10000-01-01",
        "a = 2026-02-30",
        "a = \x00",
        "a" * 3000 + " = 1",
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_what_is_nested_too_deep_or_too_long_is_a_job_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(JobError) as caught:
        parse(text, tmp_path)
    assert len(str(caught.value)) < 2000
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("12000.50", "1e999999999", "parameters.min_total: expected a number with an exponent"),
        ("12000.50", "1e999999999999999999999", "parameters.min_total: expected an amount"),
        ("12000.50", "1e-999999999", "parameters.min_total: expected a number with an exponent"),
        ("min_senders = 5", "min_senders = 99999999999999999999", "parameters.min_senders: expected a whole number"),
        ("pad_rows_to = 100", "pad_rows_to = 0xffffffffffffffffff", "pad_rows_to: expected a whole number"),
        ("2026-09-01", '"0001-01-01T00:00:00+14:00"', "window.start: expected a time in the years 1 to 9999"),
        ("2026-10-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "window.end: expected a time in the years"),
        ("connect_s = 20", "connect_s = 1e300", "at most 2592000"),
        ('"south.crt"', '"/dev/zero"', "parties[1].certificate: cannot read south's certificate"),
        ('"south.crt"', '"south.pem"', "No such file or directory; put the file that south made with"),
        ('"south.crt"', '"a\\u0000b"', "parties[1].certificate: cannot read south's certificate"),
        ('"127.0.0.1:7401"', '"h\\u001b[3A\\u001b[2K:7400"', "parties[0].address: expected host:port"),
        ('"127.0.0.1:7401"', '"h\\n:7400"', "parties[0].address: expected host:port"),
        ('"127.0.0.1:7401"', '"h h:7400"', "parties[0].address: expected host:port"),
        ('"127.0.0.1:7401"', '"h\\u202e:7400"', "parties[0].address: expected host:port"),
        ("connect_s = 20", '"a\\u001b[2J\\nb" = 20', r"timeouts.a\x1b[2J\nb: there is no such field"),
        ("min_senders = 5", '"a\\u001b[2J\\nb" = 5', r"parameters.a\x1b[2J\nb: there is no such parameter"),
    ],
)  # fmt: skip
def test_a_value_that_would_do_harm_when_used_or_shown_is_a_job_error(
    folder: Path, old: str, new: str, says: str
) -> None:
    with pytest.raises(JobError) as caught:
        parse(changed(old, new), folder)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_long_line_is_refused_before_it_is_parsed(folder: Path) -> None:
    with pytest.raises(JobError, match=r"job\.toml:7: expected lines of at most 4096 characters"):
        parse(changed("# units", "#" * 5000), folder)


def test_a_device_a_pipe_a_long_file_and_a_byte_order_mark_are_no_job_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(JobError, match="a device or a pipe"):
            load_job(path)
    (tmp_path / "long.toml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(JobError, match="at most 1048576 bytes"):
        load_job(tmp_path / "long.toml")
    (tmp_path / "marked.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    with pytest.raises(JobError, match="byte order mark"):
        load_job(tmp_path / "marked.toml")


@pytest.mark.parametrize(
    ("old", "new", "fields"),
    [
        ("september", "october", {"name"}),
        ("min_senders = 5", "min_senders = 6", {"parameters.min_senders"}),
        ("12000.50", "12000.51", {"parameters.min_total"}),
        ("start = 2026-09-01\n", "", {"window.start"}),
        ('certificate = "north.crt"', 'certificate = "new/north.crt"', {"north's certificate"}),
        ("connect_s = 20", "message_s = 20", {"timeouts.connect_s", "timeouts.message_s"}),
        ('input = ["north", "south"]', 'input = ["south", "north"]', {"roles.input"}),
        ("pad_rows_to = 100", "pad_rows_to = 101", {"pad_rows_to"}),
        ("pad_rows_to = 100", "pad_rows_to = 100\nmax_rows = 500", {"max_rows"}),
        ("127.0.0.1:7401", "north.example:443", set()),
    ],
)
def test_the_digests_of_fields_tell_where_two_jobs_differ(
    folder: Path, old: str, new: str, fields: set[str]
) -> None:
    mine, theirs = parse(GOOD, folder).field_digests, parse(changed(old, new), folder).field_digests
    assert {name for name in mine if mine[name] != theirs[name]} == fields
    assert all(len(digest) == 16 for digest in mine.values())


def test_messages_of_job_errors_stay_on_one_line(folder: Path) -> None:
    with pytest.raises(JobError) as caught:
        parse(changed("september", "a" * 300 + "\\n"), folder)
    assert not re.search(r"[\n\r]", str(caught.value))
    assert len(str(caught.value)) < 400
