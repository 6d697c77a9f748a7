"""Our own formats: what is kept in tests/vectors is read and written as it was, and what is bad in it is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from formats import FORMATS
from secagg import errors

VECTORS = Path(__file__).parent / "vectors"
pytest.importorskip("gmpy2", reason="the key files are of Paillier keys, which need gmpy2")


def kept(name: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))["vectors"]
    return vectors


LATER = ("of a later format", "of a later version", "version 2", "a ciphertext of a later version")
EVERY = [(name, vector) for name in FORMATS for vector in kept(name)]
GOOD = [pytest.param(name, v, id=f"{name}: {v['name']}") for name, v in EVERY if "error" not in v]
BAD = [pytest.param(name, v, id=f"{name}: {v['name']}") for name, v in EVERY if "error" in v]


def test_every_file_of_vectors_has_good_and_bad_ones_of_distinct_names() -> None:
    assert {path.stem for path in VECTORS.glob("*.json")} == set(FORMATS)
    for name in FORMATS:
        names = [vector["name"] for vector in kept(name)]
        assert len(set(names)) == len(names)
        assert {"error" in vector for vector in kept(name)} == {False, True}


@pytest.mark.parametrize(("name", "vector"), GOOD)
def test_a_good_vector_is_read_and_written_to_the_same_bytes(name: str, vector: dict[str, Any]) -> None:
    found = FORMATS[name]().run(vector["in"])
    assert found == vector["out"]
    for written in found.keys() & vector["in"].keys():
        assert found[written] == vector["in"][written]


@pytest.mark.parametrize(("name", "vector"), BAD)
@pytest.mark.slow
def test_a_bad_vector_raises_the_error_that_is_named_beside_it(name: str, vector: dict[str, Any]) -> None:
    with pytest.raises(errors.SecaggError) as refused:
        FORMATS[name]().run(vector["in"])
    assert type(refused.value).__name__ == vector["error"]
    if vector["name"].startswith(LATER):
        assert re.search("a later release wrote it|run the same release", str(refused.value))


@pytest.mark.parametrize("name", FORMATS)
def test_the_vectors_are_those_that_are_made_of_the_code(name: str) -> None:
    made = FORMATS[name]()
    vectors = kept(name)
    assert {v["name"]: v["in"] for v in vectors if "error" not in v} == dict(made.good)
    assert {v["name"]: (v["error"], v["in"]) for v in vectors if "error" in v} == dict(made.bad)
