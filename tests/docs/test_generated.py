"""The tables of docs/events.md and docs/api.md are as the classes and the OpenAPI document have them."""

from __future__ import annotations

import re

from docs import generate_api
from docs.generate_events import PAGE, text
from shared.dashboard.app import AREAS
from shared.dashboard.openapi import openapi_document
from shared.topology import TOPICS


def test_the_tables_are_as_the_classes_have_them() -> None:
    assert PAGE.read_text(encoding="utf-8") == text(), "run: python -m docs.generate_events"


def test_each_table_has_rows() -> None:
    for row in (
        "| a build | `spec`",
        "| `revoke` |",
        "| `outcome` |",
        "| `sequence` |",
        "| `step-failed` |",
        "| `Ticked` |",
    ):
        assert row in text(), row


def test_the_page_has_all_topics() -> None:
    assert sorted(
        re.findall(r"^\| `([a-z-]+)` \| .* \| .* \|$", text().partition("## Requests")[0], re.MULTILINE)
    ) == sorted(TOPICS)


def test_the_json_of_the_dashboard_is_as_openapi_describes_it() -> None:
    assert generate_api.PAGE.read_text(encoding="utf-8") == generate_api.text(), "run: python -m docs.generate_api"


def test_the_page_has_all_routes_and_their_parameters() -> None:
    page = generate_api.text()
    for path, methods in openapi_document(AREAS)["paths"].items():
        for method, operation in methods.items():
            row = re.search(rf"^\| `{method.upper()} {re.escape(path)}` \| .+$", page, re.MULTILINE)
            assert row, path
            for parameter in operation["parameters"]:
                assert f"`{parameter['name']}`" in row[0], path
                assert f"| {parameter['description']} |" in page, path


def test_the_page_has_fields_of_nested_objects() -> None:
    for row in (
        "| `builds[].wait` | `place` whole number",
        "| `images[]` | as `images[]` of",
        "(from 1, to 500, default 50)",
    ):
        assert row in generate_api.text(), row
