"""What the workflows of docs/pipelines.md do only at their service: the wheel's name, and options of Terraform."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

from tests.docs.options import unknown_options
from tests.docs.pages import shown_files
from tests.project.source_tree import ROOT

PAGE = Path("docs/pipelines.md")
TEXTS = {file.path: file.text for file in shown_files(PAGE) if file.path.endswith(".yaml")}


def test_wheels_are_called_as_pip_is_told() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wheel = f"{project['name'].replace('-', '_')}-0.1.0-py3-none-any.whl"
    patterns = re.findall(r"pipx? install (\S+\.whl)", (ROOT / PAGE).read_text("utf-8"))
    assert len(patterns) == 2
    assert [pattern for pattern in patterns if not fnmatch(wheel, pattern)] == []


def test_terraform_is_initialized_and_knows_its_options() -> None:
    for path in (".github/workflows/image.yaml", "cloudbuild-image.yaml"):
        lines = re.findall(r"^ +(terraform .*)$", TEXTS[path], re.MULTILINE)
        assert [re.sub(r".*-chdir=infra (\w+).*", r"\1", line) for line in lines] == ["init", "apply"], path
        assert [fault for line in lines for fault in unknown_options(line.replace("$$", "$"))] == []
