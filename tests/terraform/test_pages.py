"""docs/deployment.md names every variable, output and alert of terraform/, and no others."""

from __future__ import annotations

import re

import pytest

from tests.project.source_tree import ROOT
from tests.terraform.configuration import Configuration, read_configuration
from tests.terraform.planning import Plan

PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return read_configuration()


def section(heading: str) -> str:
    """Return the text below a heading."""
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """Return the first cells of a table's rows, without its head."""
    return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][2:]


def test_variables(configuration: Configuration) -> None:
    told = [name for cell in first_cells(section("Variables")) for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(told) == sorted(block.labels[0] for block in configuration.of_kind("variable"))


def test_outputs(configuration: Configuration) -> None:
    [line] = [line for line in section("Variables").split("\n\n") if line.startswith("Its outputs are")]
    assert re.findall(r"`(\w+)`", line) == [block.labels[0] for block in configuration.of_kind("output")]


def test_alerts(plan: Plan) -> None:
    alerts = {
        values["display_name"].removeprefix("Goldsmith: ") for values in plan.all("google_monitoring_alert_policy")
    }
    assert set(first_cells(section("Alerts"))) == alerts


def test_deployment_takes_five_commands() -> None:
    commands = [line for line in section("Deploy").strip("\n").split("\n\n")[0].splitlines() if line.startswith("    ")]
    assert 1 <= len(commands) <= 5
