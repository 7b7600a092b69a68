"""What is looked up in Secret Manager for a plan: newest versions there, and nothing else that a spec may name."""

from __future__ import annotations

import pytest

from shared.planning.secret_versions import with_numbers
from tests.shared.spec.reading import read_spec


class Versions:
    """Secrets whose newest version is the seventh."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def newest(self, secret: str) -> int:
        self.asked.append(secret)
        return 7


@pytest.mark.parametrize("path", ["/etc", "/../projects/p/secrets/token/versions/1:access?x="])
def test_a_file_that_is_called_as_a_newest_version_is_not_looked_up(path: str) -> None:
    places = f"{{A: 'file:{path}/versions/latest', B: projects/p/secrets/b/versions/latest}}"
    step = f"{{name: a, action: run-script, inputs: {{script: a.sh}}, secrets: {places}}}"
    text = f"name: hello\nsource: {{project: local, family: debian-12}}\ncontext: .\nsteps: [{step}]\n"
    versions = Versions()
    [found] = with_numbers(read_spec(text, "s"), versions).steps
    assert found.secrets == {"A": f"file:{path}/versions/latest", "B": "projects/p/secrets/b/versions/7"}
    assert versions.asked == ["projects/p/secrets/b"]
