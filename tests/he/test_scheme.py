"""The rules that all schemes share, on a scheme that hides nothing.

The module is long because the scheme that hides nothing is written out in it.
"""

from __future__ import annotations

import copy
import io
import pickle
from concurrent.futures import Executor
from typing import Any, Self

import numpy as np
import pytest
import rich.console
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from secagg import wire
from secagg.errors import PlanError, RangeError, ShapeError, UsageError
from secagg.fixed_point import Plan
from secagg.he import scheme
from secagg.he.scheme import Ciphertext, ExactPublicKey, ExactSecretKey, Header, HeaderFields
from secagg.prg import Stream
from secagg.ring import RingArray
from secagg.wire import Message

KEY_ID = bytes(range(32))
PLAN = Plan(bits=32, frac_bits=10, clip=8.0, parties=5, max_weight=3)


class OpenFields(Message, frozen=True):
    header: HeaderFields
    values: NDArray[np.uint32]


class OpenKeyFields(Message, frozen=True):
    key_id: bytes


class OpenCiphertext(Ciphertext):
    """An array that anybody can read."""

    __slots__ = ("values",)

    def __init__(self, header: Header, values: RingArray) -> None:
        super().__init__(header)
        self.values = values

    @property
    def numbers_together(self) -> int:
        return 4

    def _copy(self) -> Self:
        return type(self)(self.header, self.values.copy())

    def _part(self, header: Header, start: int, stop: int) -> Self:
        return type(self)(header, self.values.reshape(-1)[4 * start : 4 * stop].reshape(header.shape))

    def _add(self, other: Self) -> None:
        self.values += other.values

    def _times(self, factor: int) -> Self:
        return type(self)(self.header, self.values * np.uint32(factor % (1 << 32)))

    def to_message(self) -> OpenFields:
        return OpenFields(self.header.to_fields(), self.values)


class OtherCiphertext(OpenCiphertext):
    __slots__ = ()


class OpenPublicKey(ExactPublicKey):
    __slots__ = ("_key_id", "_scheme")

    def __init__(self, key_id: bytes = KEY_ID, name: str = "open") -> None:
        self._key_id, self._scheme = key_id, name

    @property
    def scheme(self) -> str:
        return self._scheme

    @property
    def key_id(self) -> bytes:
        return self._key_id

    def encrypt_encoded(
        self,
        values: RingArray,
        plan: Plan,
        *,
        weight: int = 1,
        rng: Stream | None = None,
        executor: Executor | None = None,
    ) -> OpenCiphertext:
        scheme.check_encoded(values, plan, weight)
        header = Header(self.scheme, self.key_id, plan, values.shape, weight=weight)
        return OpenCiphertext(header, values.copy())

    def numbers_together(self, plan: Plan) -> int:
        return 4

    @property
    def payload_bytes(self) -> int:
        return 0

    def ciphertext_bytes(self, plan: Plan, length: int) -> int:
        return 4 * length

    def read(self, message: OpenFields, *, peer: str = "") -> OpenCiphertext:
        header = Header.from_fields(message.header)
        scheme.check_header(header, self)
        return OpenCiphertext(header, message.values)

    def read_bytes(self, data: wire.Buffer, *, peer: str = "") -> OpenCiphertext:
        return self.read(wire.from_bytes(data, OpenFields, peer=peer), peer=peer)

    def to_message(self) -> OpenKeyFields:
        return OpenKeyFields(self.key_id)

    @classmethod
    def from_message(cls, message: OpenKeyFields, *, peer: str = "") -> Self:
        return cls(message.key_id)


class OpenSecretKey(ExactSecretKey):
    __slots__ = ("_public_key", "secret")

    def __init__(self, public_key: OpenPublicKey) -> None:
        self._public_key, self.secret = public_key, "the combination of the safe"

    @property
    def public_key(self) -> OpenPublicKey:
        return self._public_key

    def decrypt_encoded(self, ciphertext: Ciphertext, *, executor: Executor | None = None) -> RingArray:
        scheme.check_ciphertext(ciphertext, self.public_key)
        assert isinstance(ciphertext, OpenCiphertext)
        return ciphertext.values

    def to_message(self) -> OpenKeyFields:
        return OpenKeyFields(self.public_key.key_id)


KEY = OpenPublicKey()
SECRET_KEY = OpenSecretKey(KEY)


def header(**changes: Any) -> Header:
    fields: dict[str, Any] = {"scheme": "open", "key_id": KEY_ID, "plan": PLAN, "shape": (2, 3)}
    return Header(**(fields | changes))


def encrypted(values: Any = ((1.5, -2.0, 8.0), (0.0, -8.0, 0.25))) -> OpenCiphertext:
    ciphertext = KEY.encrypt(values, PLAN)
    assert isinstance(ciphertext, OpenCiphertext)
    return ciphertext


# Headers.


def test_a_header_counts_one_encryption_unless_told_otherwise() -> None:
    assert (header().summands, header().weight, header().length, header().capacity) == (1, 1, 6, 15)
    assert header(shape=()).length == 1


@pytest.mark.parametrize("length", [0, 31, 33])
def test_key_ids_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(UsageError, match=f"32 bytes, not {length}"):
        header(key_id=bytes(length))


@pytest.mark.parametrize("changes", [{"summands": 0}, {"weight": 0}, {"summands": -1}, {"weight": -3}])
def test_headers_of_less_than_one_summand_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        header(**changes)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (-1,), (2, -3)])
def test_headers_of_nothing_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="nothing to encrypt"):
        header(shape=shape)


def test_a_header_beyond_the_plans_capacity_is_refused() -> None:
    header(weight=15)
    with pytest.raises(RangeError, match="weight 16 does not fit a plan for 5 parties with weights up to 3"):
        header(weight=16)


def test_a_length_beyond_64_bits_is_not_wrapped() -> None:
    assert header(shape=(1 << 40, 1 << 40)).length == 1 << 80


@pytest.mark.slow
@given(st.integers(1, 15), st.integers(1, 15), st.integers(1, 9), st.integers(1, 9))
def test_a_sum_adds_summands_and_weights_and_is_refused_exactly_beyond_the_capacity(
    w: int, v: int, m: int, n: int
) -> None:
    a, b = header(weight=w, summands=m), header(weight=v, summands=n)
    if w + v <= 15:
        assert a.plus(b) == header(weight=w + v, summands=m + n) == b.plus(a)
    else:
        with pytest.raises(RangeError, match=f"weight {w + v} does not fit"):
            a.plus(b)


@given(st.integers(1, 15), st.integers(-20, 20).filter(bool))
def test_a_multiple_weighs_the_factors_absolute_value_more(w: int, factor: int) -> None:
    if w * abs(factor) <= 15:
        assert header(weight=w, summands=4).times(factor) == header(weight=w * abs(factor), summands=4)
    else:
        with pytest.raises(RangeError, match="does not fit"):
            header(weight=w).times(factor)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"scheme": "paillier/1"}, UsageError, "paillier/1 to one of open"),
        ({"key_id": bytes(32)}, UsageError, "under key 0000000000000000 to one under key 0001020304050607"),
        ({"plan": Plan(32, 11, 8.0, 5, 3)}, UsageError, "frac_bits=11"),
        ({"plan": Plan(32, 10, 4.0, 5, 3)}, UsageError, "clip=4.0"),
        ({"plan": Plan(32, 10, 8.0, 6, 3)}, UsageError, "parties=6"),
        ({"plan": Plan(64, 10, 8.0, 5, 3)}, UsageError, "bits=64"),
        ({"shape": (3, 2)}, ShapeError, r"\(3, 2\) to one of shape \(2, 3\)"),
        ({"shape": (6,)}, ShapeError, r"\(6,\)"),
    ],
    ids=["scheme", "key", "places", "clip", "parties", "ring", "shape", "length alike"],
)
def test_what_would_decode_to_something_else_is_not_added(
    changes: dict[str, Any], error: type[UsageError], text: str
) -> None:
    with pytest.raises(error, match=text):
        header().plus(header(**changes))


@pytest.mark.parametrize("factor", [0, 1.0, True, "2", None, np.int64(2)], ids=repr)
def test_factors_other_than_pythons_integers_but_0_are_refused(factor: Any) -> None:
    with pytest.raises(UsageError, match="an integer other than 0"):
        header().times(factor)


def test_headers_come_back_from_the_wire() -> None:
    sent = header(weight=7, summands=3)
    data = wire.to_bytes(sent.to_fields())
    assert Header.from_fields(wire.from_bytes(data, HeaderFields)) == sent


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"key_id": b""}, UsageError),
        ({"weight": 16}, RangeError),
        ({"summands": 0}, UsageError),
        ({"shape": (0,)}, ShapeError),
        ({"plan": scheme.PlanFields(32, 10, float("nan"), 5, 3)}, UsageError),
        ({"plan": scheme.PlanFields(32, 30, 8.0, 5, 3)}, PlanError),
    ],
    ids=["key id", "weight", "summands", "shape", "clip", "overflowing plan"],
)
def test_fields_that_no_header_has_are_refused(changes: dict[str, Any], error: type[UsageError]) -> None:
    good = header().to_fields()
    fields = {name: getattr(good, name) for name in good.__struct_fields__} | changes
    with pytest.raises(error):
        Header.from_fields(HeaderFields(**fields))


# Ciphertexts.


def test_sums_and_multiples_decrypt_to_the_plain_ones() -> None:
    x, y = np.array([1.5, -2.0, 0.25]), np.array([-8.0, 8.0, 3.0])
    total = encrypted(x) * 2 + -1 * encrypted(y)
    assert np.array_equal(SECRET_KEY.decrypt(total), 2 * x - y)
    assert (total.header.summands, total.header.weight) == (2, 3)


def test_addition_changes_neither_operand_and_shares_no_memory() -> None:
    a, b = encrypted(), encrypted()
    before = a.values.copy()
    total = a + b
    assert total.header.summands == 2
    total.values += np.uint32(1)
    assert np.array_equal(a.values, before)
    assert np.array_equal(b.values, before)
    assert a.header.summands == b.header.summands == 1


def test_addition_in_place_keeps_the_object() -> None:
    total = same = encrypted()
    total += encrypted()
    assert total is same
    assert same.header.summands == 2


def test_a_ciphertext_is_added_to_itself() -> None:
    a = encrypted()
    a += a
    assert np.array_equal(SECRET_KEY.decrypt(a), 2 * SECRET_KEY.decrypt(encrypted()))


def test_a_refused_addition_changes_nothing() -> None:
    a = encrypted() * 14
    before = a.values.copy()
    for other, error in ((encrypted() * 2, RangeError), (encrypted([1.0]), ShapeError), (3, UsageError)):
        with pytest.raises(error):
            a += other  # type: ignore[arg-type]
        with pytest.raises(error):
            a + other  # type: ignore[operator]
    assert a.header.weight == 14
    assert np.array_equal(a.values, before)


@pytest.mark.parametrize("other", [3, 1.5, None, np.zeros(6), "x"], ids=lambda o: type(o).__name__)
def test_only_ciphertexts_are_added(other: Any) -> None:
    with pytest.raises(UsageError, match=f"cannot add {type(other).__name__}"):
        encrypted() + other


def test_ciphertexts_of_another_class_are_not_added() -> None:
    a = encrypted()
    with pytest.raises(UsageError, match="cannot add OpenCiphertext"):
        OtherCiphertext(a.header, a.values) + a  # type: ignore[operator]


def test_the_planned_number_of_summands_and_not_one_more_is_added() -> None:
    total = encrypted()
    for _ in range(14):
        total += encrypted()
    with pytest.raises(RangeError, match="weight 16"):
        total += encrypted()
    assert np.array_equal(SECRET_KEY.decrypt(total), 15 * SECRET_KEY.decrypt(encrypted()))


def test_ciphertexts_turn_into_bytes_and_say_what_they_are() -> None:
    a = encrypted() + encrypted()
    kept = wire.from_bytes(a.to_bytes(), OpenFields)
    assert Header.from_fields(kept.header) == a.header
    assert np.array_equal(kept.values, a.values)
    assert repr(a) == "<open ciphertext of shape (2, 3), 2 summands, key 0001020304050607>"


def test_sum_differences_and_negatives_decrypt_to_the_plain_ones() -> None:
    x, y = np.array([1.5, -2.0, 0.25]), np.array([-8.0, 8.0, 3.0])
    a, b = encrypted(x), encrypted(y)
    for got, expected, summands in ((sum([a, b]), x + y, 2), (a - b, x - y, 2), (-a, -x, 1), (0 + a, x, 1)):
        assert isinstance(got, OpenCiphertext)
        assert np.array_equal(SECRET_KEY.decrypt(got), expected)
        assert (got.header.summands, got.header.weight) == (summands, summands)
    total = a.copy()
    total -= b
    assert np.array_equal(SECRET_KEY.decrypt(total), x - y)
    start = 0 + a
    start += b
    assert np.array_equal(SECRET_KEY.decrypt(a), x)  # what `sum` begins with is not the first one itself


def test_an_encryption_that_is_added_again_is_no_other_summand() -> None:
    a, b = encrypted([1.0]), encrypted([2.0])
    for total, summands, weight in (
        (sum([a, a]), 1, 2),
        (sum([a, a, a]), 1, 3),
        (sum([a, b, a]), 2, 3),
        (a - a.copy(), 1, 2),
        (a + 2 * a, 1, 3),
        ((a + b) + (b + a), 2, 4),
        (a + encrypted([1.0]), 2, 2),
    ):
        assert isinstance(total, OpenCiphertext)
        assert (total.header.summands, total.header.weight) == (summands, weight)
    plan = Plan(bits=32, frac_bits=10, clip=8.0, parties=1000)
    many = KEY.encrypt([0.0], plan)
    for _ in range(99):
        many += KEY.encrypt([0.0], plan)
    assert many.header.summands == 100
    assert many.origins is None  # and what is kept of them does not grow for ever


def test_a_difference_has_to_fit_the_plan_as_a_sum_has() -> None:
    a = encrypted() * 14
    with pytest.raises(RangeError, match="weight 16"):
        a - encrypted() * 2
    with pytest.raises(RangeError, match="weight 16"):
        a -= encrypted() * 2
    assert a.header.weight == 14


@pytest.mark.parametrize("other", [1, False, 0.0, None, np.zeros(3), np.float64(0)], ids=repr)
def test_nothing_but_the_0_of_sum_is_added_from_the_left(other: Any) -> None:
    with pytest.raises(UsageError, match=r"cannot add .* to a ciphertext of open"):
        other + encrypted()
    with pytest.raises(UsageError, match=r"cannot add .* to a ciphertext of open"):
        encrypted() - other


def test_rows_are_taken_where_nothing_else_is_encrypted_with_them() -> None:
    x = np.arange(14.0).reshape(7, 2) / 4
    whole = encrypted(x)
    for rows in (slice(0, 2), slice(2, 6), slice(4, None), slice(None), slice(-3, 7), slice(2, 100)):
        part = whole[rows]
        assert np.array_equal(SECRET_KEY.decrypt(part), x[rows])
        assert part.header == header(shape=x[rows].shape)
    assert (whole[2:4] + whole[2:4]).header.summands == 1
    for refused, error, text in (
        (slice(1, 4), UsageError, "numbers 2 to 8 of 14, of which 4 each are encrypted together"),
        (slice(0, 3), UsageError, "slice at multiples of 4 numbers"),
        (slice(0, 6, 2), UsageError, "expected rows start:stop"),
        (3, UsageError, "single numbers and steps"),
        ((slice(0, 2), 1), UsageError, "expected rows start:stop"),
        (slice(5, 5), ShapeError, "there is no row 5:5"),
        (slice(9, 12), ShapeError, "no row"),
    ):
        with pytest.raises(error, match=text):
            whole[refused]  # type: ignore[index]
    with pytest.raises(UsageError, match=r"shape \(\)"):
        encrypted(1.0)[0:1]
    with pytest.raises(TypeError):
        iter(whole)  # type: ignore[call-overload]


# Keys.


def test_ciphertexts_under_another_key_or_scheme_are_not_decrypted() -> None:
    with pytest.raises(
        UsageError, match="expected a ciphertext under key 0000000000000000, got one under 0001"
    ):
        OpenSecretKey(OpenPublicKey(bytes(32))).decrypt(encrypted())
    with pytest.raises(UsageError, match="expected a ciphertext of shut, got one of 'open'"):
        OpenSecretKey(OpenPublicKey(name="shut")).decrypt(encrypted())


def test_a_decrypted_sum_beyond_what_the_header_allows_is_refused() -> None:
    a = encrypted([1.0])
    a.values[0] = PLAN.limit + 1
    with pytest.raises(RangeError):
        SECRET_KEY.decrypt(a)


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [8.1]])
def test_numbers_out_of_range_are_not_encrypted(values: list[float]) -> None:
    with pytest.raises(RangeError):
        KEY.encrypt(values, PLAN)


def encoded(*values: int) -> RingArray:
    return np.array(values, np.int32).view(np.uint32)


def test_encoded_numbers_are_taken_up_to_the_limit_times_the_weight_and_no_further() -> None:
    edge = 2 * PLAN.limit
    assert KEY.encrypt_encoded(encoded(edge, -edge), PLAN, weight=2).header.weight == 2
    for value in (edge + 1, -edge - 1, -(1 << 31), (1 << 31) - 1):
        with pytest.raises(RangeError, match=f"beyond \\+-{edge}"):
            KEY.encrypt_encoded(encoded(0, value), PLAN, weight=2)


@pytest.mark.parametrize("weight", [0, 16, -1])
def test_weights_out_of_the_plan_are_refused(weight: int) -> None:
    with pytest.raises(UsageError, match=f"weight of 1 to 15, got {weight}"):
        KEY.encrypt_encoded(encoded(0), PLAN, weight=weight)


def test_encoded_numbers_of_another_dtype_or_none_at_all_are_refused() -> None:
    for values in (np.zeros(3, np.uint64), np.zeros(3, np.int32), np.zeros(3)):
        with pytest.raises(ShapeError, match="the plan's ring elements come in uint32"):
            KEY.encrypt_encoded(values, PLAN)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="nothing to encrypt"):
        KEY.encrypt_encoded(np.zeros((0, 2), np.uint32), PLAN)


def test_secret_keys_are_not_shown() -> None:
    out = io.StringIO()
    rich.console.Console(file=out).print(SECRET_KEY)
    for text in (repr(SECRET_KEY), str(SECRET_KEY), f"{SECRET_KEY}", out.getvalue()):
        assert "combination" not in text
    assert repr(SECRET_KEY) == "<OpenSecretKey of <public key 0001020304050607 of open>, hidden>"


def test_secret_keys_are_not_pickled_or_copied() -> None:
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled or copied"):
            copied(SECRET_KEY)


def test_public_keys_turn_into_bytes() -> None:
    assert wire.from_bytes(KEY.to_bytes(), OpenKeyFields).key_id == KEY_ID
    assert repr(KEY) == "<public key 0001020304050607 of open>"
