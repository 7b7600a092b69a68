"""The terraform commands of the pages, as a reader types them who has no network and no project.

`init` and `get` are run. What `apply` and `destroy` would do is planned with the same words.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

from tests.docs.not_run import NOT_RUN
from tests.docs.pages import every_command
from tests.docs.reader import Reader
from tests.project.source_tree import ROOT
from tests.terraform.planning import schema
from tests.terraform.schema_provider import serving

IN_USE = ("terraform", "main.py", "requirements.txt", "functions", "shared", "provisioner", "docs")
CHANGES = re.compile(r"terraform -chdir=\S+ (?:apply|destroy)\b")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader with the parts of a checkout that Terraform reads."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in IN_USE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".terraform"))
        else:
            shutil.copy2(source, folder / name)
    with serving(schema(), told=True) as environment:
        reader = Reader(folder, {**environment, "CHECKPOINT_DISABLE": "1"}, {"PROJECT": "my-project"})
        reader.types("terraform -chdir=terraform/examples/basic init", says="has been successfully initialized")
        yield reader


def changes() -> list[str]:
    """Return the commands of the pages that make or remove what is in a project."""
    return sorted({each.text for each in every_command() if CHANGES.match(each.text)})


def test_the_commands_that_change_nothing_are_run(reader: Reader) -> None:
    reader.types("terraform -chdir=terraform/examples/basic get")
    reader.types("terraform -chdir=terraform/examples/basic init -lockfile=readonly", says="successfully initialized")


def test_the_others_are_listed() -> None:
    listed = {text for texts in NOT_RUN.values() for text in texts}
    assert len(changes()) > 3
    assert set(changes()) <= listed


@pytest.mark.parametrize("command", changes(), ids=lambda text: text[:80])
def test_what_they_would_do_is_planned(reader: Reader, command: str) -> None:
    planned = command.replace(" apply ", " plan ").replace(" destroy ", " plan -destroy ")
    said = reader.run(f"{reader.writes(planned, {})} -input=false -no-color")
    if "-destroy" in planned:
        assert "No changes. No objects need to be destroyed." in said
    else:
        assert re.search(r"Plan: [1-9]\d* to add, 0 to change, 0 to destroy\.", said), said
