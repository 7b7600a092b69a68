"""What the functions log to be counted is counted, and every alert can fire and reaches people."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from functions.advance_build import finished_figures
from shared import topology
from tests.project.source_tree import ROOT, modules
from tests.terraform.conftest import VARIABLES
from tests.terraform.planning import Plan
from tests.world.values import ended_build


def logged() -> set[str]:
    """Return the values of `metric` in the code: those of `extra={"metric": ...}`, and of what is put there."""
    return {
        value
        for module in modules(ROOT, "functions", "shared")
        for node in ast.walk(module.tree)
        for value in _metrics(node)
    }


def _metrics(node: ast.AST) -> Iterator[str]:
    values: list[ast.expr] = []
    if isinstance(node, ast.Dict):
        values = [v for k, v in zip(node.keys, node.values, strict=True) if k and ast.unparse(k) == "'metric'"]
    elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "metric":
        values = [node.value]
    for value in values:
        branches = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
        yield from (b.value for b in branches if isinstance(b, ast.Constant) and isinstance(b.value, str))


def test_what_is_logged_is_counted(plan: Plan) -> None:
    found = plan.of("google_logging_metric", "counted")
    assert logged() == set(found)
    for name, metric in found.items():
        assert f'jsonPayload.metric="{name}"' in metric["filter"]
        [prefix] = re.findall(r'service_name:"(.*?)"', metric["filter"])
        assert all(function.deployed_name.startswith(prefix) for function in topology.FUNCTIONS)


def test_alerts_are_of_metrics_that_there_are(plan: Plan) -> None:
    counted = {metric["name"] for metric in plan.all("google_logging_metric")}
    for alert in plan.of("google_monitoring_alert_policy", "counted").values():
        [condition] = alert["conditions"]
        [threshold] = condition["condition_threshold"]
        [name] = re.findall(r'logging\.googleapis\.com/user/(.*?)"', threshold["filter"])
        assert name in counted
        assert (threshold["comparison"], threshold["threshold_value"]) == ("COMPARISON_GT", 0)


def test_dead_letters_are_told_of(plan: Plan) -> None:
    [alert] = plan.of("google_monitoring_alert_policy", "dead_letters").values()
    [threshold] = alert["conditions"][0]["condition_threshold"]
    assert f'subscription_id="{topology.DEAD_LETTERS_SUBSCRIPTION}"' in threshold["filter"]


def test_alerts_reach_people_and_say_what_to_do(plan: Plan) -> None:
    for alert in plan.all("google_monitoring_alert_policy"):
        assert alert["notification_channels"] == VARIABLES["notification_channels"]
        assert len(alert["documentation"][0]["content"]) > 50


def test_figures_of_finished_builds_are_those_that_are_logged(plan: Plan) -> None:
    kinds = {name: value for name, value in finished_figures(ended_build()).items() if name != "kind"}
    found = plan.of("google_logging_metric", "finished_figures")
    assert set(found) == {name for name, value in kinds.items() if not isinstance(value, str)}
    [counted] = plan.of("google_logging_metric", "finished_builds").values()
    for metric in (counted, *found.values()):
        assert 'jsonPayload.figures.kind="finished_build"' in metric["filter"]
        assert f'service_name="{topology.function("advance_build").deployed_name}"' in metric["filter"]
        assert all(
            re.fullmatch(r"EXTRACT\(jsonPayload\.figures\.(\w+)\)", text)
            for text in metric["label_extractors"].values()
        )
        labels = {label["key"] for label in metric["metric_descriptor"][0]["labels"]}
        assert labels == set(metric["label_extractors"])
        assert labels <= set(kinds)
    for name, metric in found.items():
        assert metric["value_extractor"] == f"EXTRACT(jsonPayload.figures.{name})"
