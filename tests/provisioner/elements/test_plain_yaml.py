"""The module yaml that scripts of elements import where the image has none."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from provisioner.elements.plain_yaml import TEXTS, YAMLError, dump, safe_load
from provisioner.elements.tools import write_tools

WORD = st.text("abcxyz019._-/+: #'\"\n~=<nulltrue", min_size=1, max_size=8)


@given(st.one_of(st.dictionaries(WORD, WORD), st.recursive(WORD, st.lists, max_leaves=5)))
def test_what_is_written_is_yaml(document: Any) -> None:
    text = dump(document)
    assert text is not None
    assert yaml.safe_load(text) == document
    assert safe_load(text) == document or document in ({}, [])


def test_lines_and_json_are_read() -> None:
    assert safe_load("---\n# names\nweb: apache2\nother: 'a b'\nempty:\n") == {
        "web": "apache2",
        "other": "a b",
        "empty": "",
    }
    assert safe_load(b'{"a": [1]}') == {"a": [1]}
    assert safe_load(io.StringIO('["a"]')) == ["a"]
    with pytest.raises(YAMLError, match="python3-yaml"):
        safe_load("web:\n  default: x\n")
    target = io.StringIO()
    assert dump({"b": "a2", "a": "x"}, target, default_flow_style=False) is None
    assert target.getvalue() == "a: x\nb: a2\n"


def test_a_script_reads_the_documents_of_the_plan(tmp_path: Path) -> None:
    (tmp_path / "hooks").mkdir()
    write_tools(str(tmp_path), str(tmp_path / "hooks"))
    text = "web:\n  default: httpd\n"
    (tmp_path / TEXTS).write_text(json.dumps({hashlib.sha256(text.encode()).hexdigest(): {"web": {"default": "x"}}}))
    script = f"import yaml, sys; print(yaml.safe_load({text!r})); print(yaml.dump({{'a': 'b'}}), end='')"
    command = [sys.executable, "-S", "-c", script]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(tmp_path / "python")}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "{'web': {'default': 'x'}}\na: b\n"
    command = [
        sys.executable,
        "-c",
        f"import yaml; print(yaml.safe_load({text!r}))",
    ]  # with the packages of this Python
    done = subprocess.run(
        command, env={"PYTHONPATH": str(tmp_path / "python")}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "{'web': {'default': 'httpd'}}\n"
