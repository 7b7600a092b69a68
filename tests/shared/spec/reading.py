"""Read specs in one call, as the tests of what happens to them want it."""

from collections.abc import Mapping
from pathlib import Path

from shared.spec.model import Spec
from shared.spec.read import NOTHING_GIVEN, SpecBuild, SpecFile, check_file, parse, parse_file, read_specs


def read_text(
    text: str,
    filename: str,
    overrides: Mapping[str, str] = NOTHING_GIVEN,
    builtin: Mapping[str, str] = NOTHING_GIVEN,
) -> tuple[SpecBuild, ...]:
    """Return the builds of a text; files that it names are not checked."""
    return read_specs(parse(text, filename), overrides, builtin)


def read_spec(text: str, filename: str, overrides: Mapping[str, str] = NOTHING_GIVEN) -> Spec:
    """Return the spec of a text, which is no workflow; files that it names are not checked."""
    parsed = parse(text, filename)
    assert not parsed.is_workflow
    [build] = read_specs(parsed, overrides)
    return build.spec


def load_specs(path: Path, source: Path | None = None) -> SpecFile:
    """Return the builds of a file, checked together with the files that it names."""
    return check_file(parse_file(path), source=source)


def load_spec(path: Path) -> Spec:
    """Return the spec of a file, checked together with the files that it names."""
    [build] = load_specs(path).builds
    return build.spec
