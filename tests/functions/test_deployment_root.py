"""main.py: what the framework finds there is what topology.py says."""

from __future__ import annotations

import ast
import inspect
from types import FunctionType

from functions_framework import _function_registry as registry

import main
from shared.topology import FUNCTIONS
from tests.functions.deployed import ROOT


def test_every_function_is_there_and_reads_its_requests_itself() -> None:
    assert sorted(main.__all__) == sorted(each.name for each in FUNCTIONS)
    for each in FUNCTIONS:
        assert isinstance(getattr(main, each.name), FunctionType)
        assert registry.REGISTRY_MAP[each.name] == registry.HTTP_SIGNATURE_TYPE


def test_each_has_a_file_of_its_own_name() -> None:
    for each in FUNCTIONS:
        found = inspect.unwrap(getattr(main, each.name))
        assert found.__module__.rpartition(".")[2] == each.name


def test_root_re_exports_and_does_nothing_else() -> None:
    tree = ast.parse((ROOT / "main.py").read_text())
    assert {type(node) for node in tree.body} == {ast.Expr, ast.ImportFrom, ast.Assign}
