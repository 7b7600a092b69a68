"""The files of a proxy are looked at with the spec, and never quoted."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import SpecError
from shared.spec.read import check_file, parse_file
from tests.shared.build.test_proxy import PEM

SPEC = """name: hello
source: {project: local, family: debian-12}
steps: []
local:
  proxy:
    http: http://proxy.example:3128
    ca: ca.pem
    credentials: login
"""


def test_files_beside_the_spec_are_good(tmp_path: Path) -> None:
    (tmp_path / "build.yaml").write_text(SPEC)
    (tmp_path / "ca.pem").write_text(PEM)
    (tmp_path / "login").write_text("ann:s3cr3t")
    [build] = check_file(parse_file(tmp_path / "build.yaml")).builds
    assert build.spec.local.proxy is not None
    assert build.spec.local.proxy.ca == "ca.pem"


def test_all_that_is_wrong_with_them_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "build.yaml").write_text(SPEC)
    (tmp_path / "login").write_text("s3cr3t")
    with pytest.raises(SpecError) as told:
        check_file(parse_file(tmp_path / "build.yaml"))
    assert [problem.partition(": ")[2] for problem in told.value.problems] == [
        f"local.proxy.ca: {tmp_path}/ca.pem cannot be read: No such file or directory; check the path",
        f"local.proxy.credentials: {tmp_path}/login does not hold USER:PASSWORD; write that in one line, and nothing "
        "else",
    ]
