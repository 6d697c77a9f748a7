"""The page of operations and costs is what the package declares, as its benchmark prints it."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.slow
def test_the_page_of_operations_is_what_costs_declare(monkeypatch, request, capfd):
    monkeypatch.syspath_prepend(str(request.config.rootpath))
    operations = importlib.import_module("benchmarks.operations")
    operations.main([])
    written = operations.PAGE.read_text(encoding="utf-8")
    assert written == capfd.readouterr().out, "run python -m benchmarks.operations --write"
