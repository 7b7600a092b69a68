"""What the functions log to be counted is counted, and every alert can fire and reaches people."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

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


# Google's reference of projects.dashboards, as far as ours uses it: the fields of each object, required ones first.
# https://cloud.google.com/monitoring/api/ref_v3/rest/v1/projects.dashboards
REFERENCE: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Dashboard": (("displayName", "mosaicLayout"), ("labels",)),
    "MosaicLayout": (("columns", "tiles"), ()),
    "Tile": (("width", "height", "widget"), ("xPos", "yPos")),
    "Widget": (("title", "xyChart"), ()),
    "XyChart": (("dataSets",), ("yAxis",)),
    "Axis": (("label", "scale"), ()),
    "DataSet": (("timeSeriesQuery", "plotType"), ("targetAxis", "legendTemplate")),
    "TimeSeriesFilter": (("filter", "aggregation"), ()),
    "Aggregation": (("alignmentPeriod", "perSeriesAligner", "crossSeriesReducer"), ("groupByFields",)),
}
GOOGLES = {
    "pubsub.googleapis.com/subscription/num_undelivered_messages",
    "pubsub.googleapis.com/subscription/oldest_unacked_message_age",
}
MOST_COLUMNS = 48


def as_in_reference(kind: str, found: Mapping[str, Any]) -> Mapping[str, Any]:
    required, optional = REFERENCE[kind]
    assert set(required) <= set(found) <= {*required, *optional}, kind
    return found


@pytest.fixture
def charts(plan: Plan) -> Mapping[str, Any]:
    """Return the dashboard's document."""
    [made] = plan.of("google_monitoring_dashboard").values()
    document: Mapping[str, Any] = json.loads(made["dashboard_json"])
    return as_in_reference("Dashboard", document)


def data_sets(charts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for tile in charts["mosaicLayout"]["tiles"]:
        yield from tile["widget"]["xyChart"]["dataSets"]


def test_the_charts_are_documents_of_cloud_monitoring_and_cover_each_other_nowhere(charts: Mapping[str, Any]) -> None:
    layout = as_in_reference("MosaicLayout", charts["mosaicLayout"])
    assert 1 <= layout["columns"] <= MOST_COLUMNS
    assert set(charts["labels"].values()) <= {""}
    covered: set[tuple[int, int]] = set()
    for tile in layout["tiles"]:
        as_in_reference("Tile", tile)
        left, top = tile.get("xPos", 0), tile.get("yPos", 0)
        assert 0 not in (tile.get("xPos"), tile.get("yPos"))  # the API leaves them out: each plan would show a change
        assert left + tile["width"] <= layout["columns"]
        area = {(x, y) for x in range(left, left + tile["width"]) for y in range(top, top + tile["height"])}
        assert not covered & area
        covered |= area
        chart = as_in_reference("XyChart", as_in_reference("Widget", tile["widget"])["xyChart"])
        assert as_in_reference("Axis", chart["yAxis"])["scale"] == "LINEAR"
    for data in data_sets(charts):
        assert as_in_reference("DataSet", data)["plotType"] in ("LINE", "STACKED_BAR")
        assert len(data["timeSeriesQuery"]) == 1


def test_the_charts_show_every_metric_of_builds_and_only_metrics_that_there_are(
    charts: Mapping[str, Any], plan: Plan
) -> None:
    ours = {f"logging.googleapis.com/user/{metric['name']}": metric for metric in plan.all("google_logging_metric")}
    shown = set()
    for query in (data["timeSeriesQuery"] for data in data_sets(charts)):
        if "prometheusQuery" in query:
            [name] = re.findall(r"logging_googleapis_com:user_(\w+)_sum", query["prometheusQuery"])
            [full] = [each for each in ours if re.sub(r"\W", "_", each) == f"logging_googleapis_com_user_{name}"]
            assert ours[full]["metric_descriptor"][0]["value_type"] == "DISTRIBUTION"
            assert "${__interval}" in query["prometheusQuery"]
            continue
        series = as_in_reference("TimeSeriesFilter", query["timeSeriesFilter"])
        how = as_in_reference("Aggregation", series["aggregation"])
        assert int(how["alignmentPeriod"].removesuffix("s")) % 60 == 0
        [name] = re.findall(r'metric\.type="(.*?)"', series["filter"])
        shown.add(name)
        if name in GOOGLES:
            assert 'resource.type="pubsub_subscription"' in series["filter"]
            continue
        [described] = ours[name]["metric_descriptor"]
        assert 'resource.type="cloud_run_revision"' in series["filter"]
        numbers = ("REDUCE_SUM",) if described["value_type"] == "INT64" else ("REDUCE_MEAN", "REDUCE_PERCENTILE_")
        assert how["perSeriesAligner"] == "ALIGN_DELTA"  # of metrics of the kind DELTA
        assert how["crossSeriesReducer"].startswith(numbers)  # what it leads to can be drawn as a line
        labels = {f"metric.label.{label['key']}" for label in described["labels"] or ()}
        assert set(how.get("groupByFields", ())) <= labels
    assert shown == {*ours, *GOOGLES}


def test_the_age_of_messages_is_that_of_each_subscription(charts: Mapping[str, Any]) -> None:
    [found] = [
        series["filter"]
        for data in data_sets(charts)
        if "oldest_unacked_message_age"
        in (series := data["timeSeriesQuery"].get("timeSeriesFilter", {})).get("filter", "")
    ]
    assert set(re.findall(r'"([-a-z]+)"', found.partition("one_of")[2])) == {
        each.name for each in topology.SUBSCRIPTIONS
    }
