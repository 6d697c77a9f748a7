"""Identifiers: which spellings meet under each rule, what is refused, and what a table shows afterwards.

The module is long because each rule of spelling has its cases here.
"""

from __future__ import annotations

import itertools
import re
import unicodedata

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bank_tables import read_deposits, read_transfers
from secagg.data.conventions import Conventions
from secagg.data.identifier_columns import spell
from secagg.errors import DataError, UsageError
from secagg.query.identifier_rules import Rule, escaped

IBAN = "DE89370400440532013000"
NONE = "stands for no identifier"


def spelt(rule: Rule, text: str) -> str:
    canonical, refused = rule.spell([text])
    assert not refused, refused
    return canonical[0]


def refusal(rule: Rule, text: str) -> str:
    canonical, refused = rule.spell([text])
    assert canonical == [""]
    return refused[0]


@pytest.fixture
def deposits(tmp_path):
    def deposits(*customers: str, kind: str = "csv", **options):
        path = tmp_path / f"t.{kind}"
        if kind == "csv":
            rows = "".join('"' + text.replace('"', '""') + '",1,1\n' for text in customers)
            path.write_text("customer,amount,time\n" + rows, "utf-8")
        else:
            with duckdb.connect() as connection:
                connection.execute("CREATE TABLE t (customer VARCHAR, amount INTEGER, time INTEGER)")
                connection.executemany("INSERT INTO t VALUES (?, 1, 1)", [[text] for text in customers])
                connection.execute(f"COPY t TO '{path}' (FORMAT parquet)")
        return read_deposits(path, **options)

    return deposits


@pytest.mark.parametrize(
    ("rule", "spellings"),
    [
        ("exact", ["é", "e\u0301"]),
        ("exact", ["a b", "a\u00a0b", "a\u2009b", " a b\u3000"]),
        ("exact", ["\u212b1", "\u00c51"]),
        ("folded", ["Straße 1", "STRASSE 1", "strasse\u00a01", " Stra\u00dfe\t 1 ", "stra\u200bsse 1"]),
        ("folded", ["ABC-12", "abc-12", "\uff21\uff22\uff23\uff0d\uff11\uff12", "\ufeffabc-12"]),
        ("folded", ["ﬁx1", "FIX1"]),
        ("folded", ["É1", "e\u03011", "E\u200d\u03011"]),
        ("iban", [IBAN, "DE89 3704 0044 0532 0130 00", "de89\u00a03704-0044.0532 0130 00", f"IBAN {IBAN}", f"\ufeff{IBAN}"]),
        ("digits", ["0012345", "00-12.345", " 00 12/345", "٠٠١٢٣٤٥", "00\u200b12345"]),
        ("stdnum:nl.bsn", ["111222333", "1112.22.333", "111 222 333"]),
    ],
)  # fmt: skip
def test_spellings_of_one_identifier_are_one(rule, spellings):
    assert len({spelt(Rule(rule), text) for text in spellings}) == 1


@pytest.mark.parametrize(
    ("rule", "texts"),
    [
        ("exact", ["A1", "a1", "01", "1", "a1.", "a  1", "a 1"]),
        ("folded", ["a1", "a 1", "a-1", "01", "1"]),
        ("digits", ["01", "1", "10"]),
    ],
)
def test_different_identifiers_stay_apart(rule, texts):
    assert len({spelt(Rule(rule), text) for text in texts}) == len(texts)


NULLS = ["NULL", "null", "None", "N/A", "n/a", "#N/A", "NaN", "nan", "-", "--", "...", "?", "<NA>", "\\N", "nil", "(null)",
         "unknown", "NaT", "undefined", "True", "FALSE", "_", "—", "not available", "\uff2e\uff35\uff2c\uff2c"]  # fmt: skip


@pytest.mark.parametrize("rule", ["exact", "folded"])
def test_texts_that_mean_missing_are_no_identifiers(rule):
    for text in NULLS:
        assert refusal(Rule(rule), f" {text} ").startswith(NONE), text
    assert refusal(Rule(rule), " \u00a0") == "is missing"


def test_an_identifier_of_invisible_characters_is_missing():
    for text in ("\u200b", "\u00a0\ufeff"):
        assert refusal(Rule("folded"), text) == "is missing"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.slow
def test_rows_with_such_texts_are_named_alike_in_csv_and_parquet(deposits, kind):
    with pytest.raises(DataError) as refused:
        deposits("c1", "NULL", "c2", "n/a", kind=kind)
    place = (":3", ":5") if kind == "csv" else (": row 2", ": row 4")
    for where in place:
        assert f"t.{kind}{where}: customer {NONE}" in str(refused.value)
    assert "real_identifiers" in str(refused.value)
    table = deposits("c1", "NULL", "c2", "n/a", kind=kind, bad_rows="skip")
    assert table["customer"].strings.tolist() == ["c1", "c2"]


@pytest.mark.slow
def test_texts_that_the_parties_list_are_real(deposits):
    real = Conventions(real_identifiers=("NA", "-"))
    assert deposits("NA", "-", conventions=real)["customer"].strings.tolist() == ["NA", "-"]
    with pytest.raises(DataError, match=NONE):
        deposits("na", conventions=real)
    folded = Conventions({"customer": "folded"}, ("NA",))
    assert deposits("na", "NA", conventions=folded)["customer"].strings.tolist() == ["na", "na"]


@pytest.mark.parametrize("rule", ["exact", "folded", "digits"])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1.23E+15", "scientific notation"), ("4,0712E+17", "scientific notation"), ("1e-05", "scientific notation"),
        ("1E+22", "scientific notation"), ("1.5e21", "scientific notation"), ("12345.0", "as a float has it"),
        ("12345,00", "as a float has it"), ("-7.0", "as a float has it"), ('="00123"', "formula"),
        ("\uff11\uff0e\uff12E\uff0b15", "scientific notation"),
    ],
)  # fmt: skip
def test_numbers_that_a_spreadsheet_or_a_float_damaged_are_refused(rule, text, why):
    assert why in refusal(Rule(rule), text)


def test_what_only_looks_like_such_a_number_is_not():
    # Hexadecimal account numbers, dotted and sectioned numbers.
    for text in ("800012E40", "12E4", "1.2.3", "1.25", "100.01", "+49", "E+1", "0.0.1"):
        assert spelt(Rule("exact"), text) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a\u200bb", "invisible"), ("a\ufeffb", "invisible"), ("a\u00adb", "invisible"), ("a\u202eb", "invisible"),
        ("a\ufe0fb", "invisible"), ("a\x00b", "control"), ("a\x1b[2J", "control"), ("a\x85b", "control"),
        ("M\ufffdller", "U+FFFD"), ("a\u0378", "does not assign"),
    ],
)  # fmt: skip
def test_characters_that_cannot_be_seen_are_refused_as_they_stand(deposits, text, why):
    assert why in refusal(Rule("exact"), text)
    if "\x00" not in text:
        with pytest.raises(DataError, match=f"t.csv:2: customer holds .*{why}".replace("+", r"\+")):
            deposits(text)
    if why != "invisible":
        assert why in refusal(Rule("folded"), text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("DE89370400440532013001", "check digits"), ("DE8937040044053201300", "DE has 22 characters"),
        ("DE893704004405320130000", "DE has 22 characters"), ("370400440532013000", "is no IBAN: two letters"),
        ("DE89_3704", "is no IBAN"), ("NULL", NONE), ("GB82WEST12345698765432X", "GB has 22"),
        ("XX00" + "1" * 12, "check digits"),
    ],
)  # fmt: skip
def test_what_is_no_iban_is_refused(text, why):
    assert why in refusal(Rule("iban"), text)


OTHER_IBANS = [
    "DE89 3704 0044 0532 0130 00", "DE89-3704-0044-0532-0130-00", f"IBAN {IBAN}", f"IBAN{IBAN}", f"iban: {IBAN}",
    "D E89370400440532013000", "gb29 nwbk 6016 1331 9268 19", "\uff24\uff25" + IBAN[2:] + " ",
]  # fmt: skip


@pytest.mark.parametrize("rule", ["exact", "folded"])
@pytest.mark.parametrize("text", [*OTHER_IBANS, IBAN.lower()], ids=ascii)
@pytest.mark.parametrize("beside", [[], ["a1"] * 3], ids=["alone", "beside others"])
def test_an_iban_that_would_meet_nobody_elses_is_refused_or_meets_it(rule, text, beside):
    spelt_alike, _ = Rule(rule).spell([*beside, IBAN])
    canonical, refused = Rule(rule).spell([*beside, text])
    assert canonical == spelt_alike or "is an IBAN that others spell otherwise" in refused[len(beside)]
    assert bool(refused) == (rule == "exact" or (text not in (IBAN.lower(), OTHER_IBANS[-1])))


@pytest.mark.parametrize("rule", ["exact", "folded"])
def test_what_only_looks_like_an_iban_is_an_identifier(rule):
    # Check digits that do not hold, no such country, too short, and the texts of hashes.
    others = [
        "DE88 3704 0044 0532 0130 00",
        "XX82-WEST-1234-5698-7654-32",
        "DE89 3704",
        "IBAN",
        "de89ab",
        "iban-1",
    ]
    hashes = [f"be{i:02}{'a1' * 6}" for i in range(2, 99)]
    hashes += [
        f"{code}{i:02}{i:x}{'f' * length}"[:length]
        for i in range(2, 99)
        for code, length in (("ae", 23), ("de", 22), ("ad", 24))
    ]
    canonical, refused = Rule(rule).spell([*others, *hashes])
    assert refused == {}
    assert canonical == (
        [text.casefold() for text in [*others, *hashes]] if rule == "folded" else [*others, *hashes]
    )


@pytest.mark.slow
@given(
    st.sampled_from(["", "IBAN", "iban:", "Iban::"]),
    st.sets(st.integers(1, 8), max_size=3),
    st.sampled_from(["-", "- ", " "]),
)
def test_an_iban_is_refused_whoever_stands_beside_it(head, places, spacing):
    text = "".join(
        spacing + character if i in places else character for i, character in enumerate(head + IBAN)
    )
    for rule, spelling in itertools.product(("exact", "folded"), (text, text.lower())):
        # One that is not plain ASCII takes its neighbours the slow way.
        (beside, _), why = Rule(rule).spell([spelling, "ä1"])
        assert Rule(rule).spell([spelling]) == ([beside], {0: why[0]} if why else {})


@pytest.mark.parametrize("rule", ["exact", "folded"])
@pytest.mark.parametrize("text", [f"I-BAN:{IBAN}", f"IBAN:D-{IBAN[1:]}", f"IBAN-:-{IBAN}"])
def test_hyphens_hide_no_iban(rule, text):
    assert refusal(Rule(rule), text) == "is an IBAN that others spell otherwise"


def test_tables_with_ibans_in_other_spellings_say_what_to_agree_on(deposits):
    with pytest.raises(
        DataError, match=r'(?s)customer is an IBAN that others.*identifiers = "iban"'
    ) as refused:
        deposits("DE89 3704 0044 0532 0130 00", "x1")
    assert "leave them out" not in str(refused.value)
    assert deposits("DE89 3704 0044 0532 0130 00", conventions=Conventions({"customer": "iban"}))[
        "customer"
    ].strings == [IBAN]


def test_an_ibans_check_digits_have_one_spelling():
    # 97 and 00, 98 and 01, 2 and 99 are equal modulo 97; ISO 13616 issues 02 to 98.
    for number in range(97):
        bban = f"{number:012}"
        good = [check for check in range(100) if not Rule("iban").spell([f"XX{check:02}{bban}"])[1]]
        assert len(good) == 1
        assert 2 <= good[0] <= 98


def test_ibans_are_judged_as_python_stdnum_judges_them():
    registry = pytest.importorskip("stdnum.iban")
    examples = ["GB82WEST12345698765432", "NL91ABNA0417164300", "NO9386011117947", IBAN, "FR1420041010050500013M02606",
                "MT84MALT011000012345MTLCAST001S", "BE68539007547034", "CH9300762011623852957"]  # fmt: skip
    for text in examples:
        assert registry.validate(text, check_country=False) == spelt(Rule("iban"), text)
        for i, other in itertools.product(range(2, len(text)), "0K"):
            changed = text[:i] + other + text[i + 1 :]
            # The registry also knows where letters stand; it never takes what the rule refuses.
            if registry.is_valid(changed, check_country=False):
                assert spelt(Rule("iban"), changed) == changed
            if changed != text and changed.isascii() and Rule("iban").spell([changed])[1]:
                assert not registry.is_valid(changed, check_country=False)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("12a", "else than digits"),
        ("-12", "negative"),
        ("12,5", "else than digits"),
        ("½", "else than digits"),
    ],
)
def test_digits_alone_are_digits(text, why):
    assert why in refusal(Rule("digits"), text)


def test_a_national_number_has_its_check_digits():
    rule = Rule("stdnum:nl.bsn")
    assert refusal(rule, "111222334") == "is no valid nl.bsn"
    assert refusal(rule, "NULL").startswith(NONE)
    assert rule.agreed.startswith("stdnum:nl.bsn of python-stdnum ")


@pytest.mark.parametrize(
    "name", ["", "EXACT", "stdnum:", "stdnum:a.b.c", "stdnum:nl.__init__", "stdnum:os.path", "x" * 200]
)
def test_a_rule_that_there_is_not_is_refused(name):
    with pytest.raises(UsageError, match=r"exact, folded, iban|python-stdnum"):
        Rule(name)


@pytest.mark.slow
@given(st.text(max_size=12))
def test_spelling_an_identifier_again_changes_nothing(text):
    for name in ("exact", "folded", "digits"):
        canonical, refused = Rule(name).spell([text])
        if not refused:
            assert Rule(name).spell(canonical) == (canonical, {})
            assert unicodedata.is_normalized("NFC" if name == "exact" else "NFKC", canonical[0])


@pytest.mark.slow
@given(
    st.lists(
        st.from_regex(r"[A-Za-z0-9 _:/#.,=+-]{0,8}|NULL|é[0-9]|a1\nB2|1[eE][+-]5", fullmatch=True),
        max_size=200,
    )
)
def test_many_at_once_are_spelt_as_each_alone(texts):
    # Runs of plain texts are taken as they are; whoever stands among them is not to slip through.
    for name in ("exact", "folded", "digits"):
        rule = Rule(name)
        canonical, refused = rule.spell(texts)
        for i, text in enumerate(texts):
            alone, why = rule.spell([text + "\u00a0"])  # not plain, and trimmed
            assert canonical[i] == alone[0]
            assert refused.get(i) == why.get(0)


@given(st.lists(st.lists(st.text(":\\ab", max_size=4), min_size=2, max_size=2), min_size=2, max_size=2))
def test_joined_identifiers_are_equal_where_all_their_parts_are(pair):
    first, second = pair
    one, other = (":".join(map(escaped, parts)) for parts in (first, second))
    assert (one == other) == (first == second)


def test_different_columns_never_make_one_identifier(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("bank,acc,amount,time\n1:2,3,1,1\n1,2:3,1,1\n1\\,2:3,1,1\n1,2,1,1\n1, 2 ,1,1\n")
    table = read_deposits(
        path, mapping={"customer": ("bank", "acc"), "amount": ("amount",), "time": ("time",)}
    )
    assert table["customer"].strings.tolist() == ["1\\:2:3", "1:2\\:3", "1\\\\:2\\:3", "1:2", "1:2"]


def test_each_part_of_a_joined_identifier_is_spelt_and_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("bank,acc,amount,time\nA,b,1,1\na,B,1,1\na,NULL,1,1\n,b,1,1\n")
    mapping = {"customer": ("bank", "acc"), "amount": ("amount",), "time": ("time",)}
    folded = Conventions({"customer": "folded"})
    with pytest.raises(
        DataError, match=r"t\.csv:4: acc stands for no identifier.*\n.*t\.csv:5: bank is missing"
    ):
        read_deposits(path, mapping=mapping, conventions=folded)
    table = read_deposits(path, mapping=mapping, conventions=folded, bad_rows="skip")
    assert table["customer"].strings.tolist() == ["a:b", "a:b"]
    assert table.own_spelling["customer"] == {"a:b": "A:b"}
    with pytest.raises(
        DataError, match="rule for customer is iban, which is about one column; the mapping has bank, acc"
    ):
        read_deposits(path, mapping=mapping, conventions=Conventions({"customer": "iban"}))


@pytest.mark.slow
def test_whole_numbers_and_their_texts_are_equal(tmp_path, deposits):
    texts = deposits("123", "007", "-5")["customer"].strings.tolist()
    for kind in ("BIGINT", "DECIMAL(20,0)", "UTINYINT", "HUGEINT"):
        sign = "" if kind == "UTINYINT" else "-"
        table = read_deposits(
            f"duckdb:SELECT unnest([123, {sign}5])::{kind} AS customer, 1 AS amount, 1 AS time"
        )
        assert table["customer"].strings.tolist() == ["123", f"{sign}5"]
    assert texts == ["123", "007", "-5"]
    assert "leading zeros are lost" in table.report.warnings[0]


def test_the_owners_first_spelling_is_kept_and_merges_are_counted(deposits):
    spellings = ("DE89 3704 0044 0532 0130 00", IBAN, "NL91ABNA0417164300", "de89370400440532013000")
    table = deposits(*spellings, conventions=Conventions({"customer": "iban"}))
    assert table["customer"].strings.tolist() == [IBAN, IBAN, "NL91ABNA0417164300", IBAN]
    assert table.own_spelling["customer"] == {IBAN: "DE89 3704 0044 0532 0130 00"}
    (count,) = table.report.identifiers
    assert (count.field, count.rule, count.distinct, count.respelt, count.merged) == (
        "customer",
        "iban",
        2,
        1,
        1,
    )


def test_rows_that_are_left_out_leave_no_identifier_behind(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "beneficiary,sender,amount,time\nb1,s1,1,1\nb2,NULL,1,1\nNULL,s2,1,1\nb3,s1,1,9\nb4,s3,1,1\n"
    )
    table = read_transfers(path, bad_rows="skip", window=(0, 5))
    assert table["beneficiary"].categories.tolist() == ["b1", "b4"]
    assert table["sender"].categories.tolist() == ["s1", "s3"]
    assert table["beneficiary"].codes.tolist() == table["sender"].codes.tolist() == [0, 1]


def test_identifiers_outside_the_window_are_not_looked_at(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("customer,amount,time\nNULL,1,9\nc,1,1\n")
    assert read_deposits(path, window=(0, 5))["customer"].strings.tolist() == ["c"]


def test_rules_differ_by_role(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"beneficiary,sender,amount,time\n{IBAN.lower()},Ann,1,1\n{IBAN},ANN,1,1\n")
    table = read_transfers(path, conventions=Conventions({"beneficiary": "iban", "sender": "exact"}))
    assert table["beneficiary"].strings.tolist() == [IBAN, IBAN]
    assert table["sender"].strings.tolist() == ["Ann", "ANN"]


@pytest.mark.parametrize(
    ("customers", "says"),
    [
        (
            [IBAN, "x1"],
            '1 of the first 2 different ones are IBANs.*identifiers = "iban"',
        ),
        ([f"{i}4071234567890000" for i in range(1, 5)], "end in zeros, as a spreadsheet leaves them"),
        ([f"2026-09-{i:02}" for i in range(1, 9)], "look like dates"),
        ([f"{i}.25" for i in range(1, 9)], "look like decimal numbers"),
        ([str(i) for i in range(10_000, 1_000_000, 997)], "leading zeros may be lost"),
        ([*(f"c{i}" for i in range(30)), *["c0"] * 20], "one of them stands in 21 of 50 rows"),
        (["c0", "c0", "c0", "c0", "c1", "c0", "c2"], "one of them stands in 5 of 7 rows"),
        (
            ["Müller AG", "Muller AG", "MÜLLER  ag", "m\uff35ller ag", "Meier"],
            '2 of the first 5 different ones are like another .*identifiers = "folded"',
        ),
        (["'00123", "00124", "'00125"], "2 of 3 different ones begin with an apostrophe"),
    ],
)
def test_what_looks_wrong_is_warned_of_without_a_value(deposits, customers, says):
    table = deposits(*customers)
    (warning,) = table.report.warnings
    assert warning.startswith(table.report.source + ": customer: ")
    assert re.search(says, warning)
    assert customers[0] not in warning


@pytest.mark.slow
def test_what_looks_right_is_not_warned_of(deposits):
    for customers in (
        [f"{i:06}" for i in range(0, 1_000_000, 997)],
        [f"{i}" for i in range(100_000, 1_000_000, 997)],
        [f"{i}407123456789012{i}" for i in range(1, 9)],
        ["A-1", "B-2"],
        ["O'Neill", *["A-1"] * 5, *["B-2"] * 4],
    ):
        assert deposits(*customers).report.warnings == ()
    ibans = Conventions({"customer": "iban"})
    assert deposits("DE89 3704 0044 0532 0130 00", conventions=ibans).report.warnings == ()


def test_spelling_does_not_show_identifiers_when_printed():
    found, _ = spell([np.array(["secret-account"], object)], Rule())
    assert "secret" not in repr(found)
