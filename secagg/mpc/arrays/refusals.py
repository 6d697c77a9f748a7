"""What a shared array refuses, and what to do instead: whatever would need its value while nothing is opened."""

from __future__ import annotations

from typing import NoReturn

from secagg.errors import UsageError


class Refuses:
    """Raises for each of Python's ways to turn an object into a plain value."""

    __slots__ = ()

    def _refuse(self, what: str, instead: str) -> NoReturn:
        raise UsageError(f"{self!r} is shared and {what}: {instead}")

    def __bool__(self) -> NoReturn:
        self._refuse(
            "has no truth value",
            "choose with mpc.where(condition, x, y), join conditions with &, | and ~, or open it first with "
            "`await x.open()`",
        )

    def __len__(self) -> NoReturn:
        self._refuse("has no len", "use x.shape[0]")

    def __iter__(self) -> NoReturn:
        self._refuse("is not iterated over", "work on the whole array, or on x[i] for i in range(x.shape[0])")

    def __contains__(self, _: object) -> NoReturn:
        self._refuse("is not searched with `in`", "use (x == value).any()")

    def __float__(self) -> NoReturn:
        self._refuse("does not become a float", "open it first with `await x.open()`")

    def __int__(self) -> NoReturn:
        self._refuse(
            "does not become an int",
            "open it first with `await x.open()`, or convert with x.astype(mpc.int64)",
        )

    __complex__ = __float__

    def __index__(self) -> NoReturn:
        self._refuse("is no index", "select with mpc.where or with (positions == x), or open it first")

    def __round__(self, *_: object) -> NoReturn:
        self._refuse("is not rounded by round()", "use mpc.rint(x), mpc.floor(x) or x.astype(mpc.int64)")

    def __format__(self, spec: str) -> str:
        if spec:
            self._refuse("is not formatted as a number", "open it first with `await x.open()`")
        return repr(self)

    def __array__(self, *_args: object, **_options: object) -> NoReturn:
        self._refuse("does not become a numpy array", "open it first with `await x.open()`")

    def __hash__(self) -> NoReturn:
        self._refuse("has no hash", "use a public name as key")

    def __await__(self) -> NoReturn:
        self._refuse("is not awaited", "operators need no await; `await x.open()` opens the result")

    def __setitem__(self, *_: object) -> NoReturn:
        self._refuse("does not change", "make a new one with mpc.where, mpc.concat or arithmetic")

    def __reduce__(self) -> NoReturn:
        self._refuse("is not pickled or copied", "share the values again, or open them first")
