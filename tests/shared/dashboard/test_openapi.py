"""The OpenAPI document names every route below /api, and what it says of their answers is true."""

from __future__ import annotations

import re
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok

from shared.dashboard.app import AREAS, make_app
from shared.dashboard.openapi import openapi_document
from shared.dashboard.web.served import Served
from tests.browser.scenes import fill_store
from tests.shared.dashboard.pages_of import Pages
from tests.world import values
from tests.world.world import World

EXAMPLES = 8  # of each operation
CHECKED = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
PROFILE = settings(derandomize=True, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def world() -> World:
    made = World()
    fill_store(made.store, values.NOON)
    made.clock.time = values.NOON
    return made


@pytest.fixture(scope="module")
def app(world: World) -> Flask:
    return make_app(Served(world.backend, "here", poll=0.01, list_poll=0.01, stream_seconds=0.02))


def test_every_route_below_api_is_described(app: Flask) -> None:
    document = openapi_document(AREAS)
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert described <= routes
    assert {route for route in routes if route[0].startswith("/api/")} <= described
    assert ("/api/builds/{build_id}", "GET") in described


def test_parameters_of_a_path_are_described() -> None:
    for path, methods in openapi_document(AREAS)["paths"].items():
        for operation in methods.values():
            named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path)), path


def test_answers_are_as_described(app: Flask) -> None:
    """Schemathesis asks for what the document allows, of each operation a few examples."""
    load_all_checks()
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", app)
    checks: Any = [CHECKS.get_one(name) for name in CHECKED]
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    described = sum(len(methods) for methods in openapi_document(AREAS)["paths"].values())
    assert len(operations) == described - 1  # it leaves out the document itself
    for operation in operations:

        @settings(PROFILE, max_examples=EXAMPLES)
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(checks=checks)

        ask()


def test_documents_of_builds_are_as_described(world: World) -> None:
    pages = Pages(world)
    listed = pages.json("/builds")["builds"]
    assert len(listed) == 7
    for build in listed:
        assert pages.json(f"/builds/{build['id']}")["id"] == build["id"]
        assert pages.json(f"/builds/{build['id']}/log")["id"] == build["id"]
    assert pages.json("/builds?state=active")["filtered"]
