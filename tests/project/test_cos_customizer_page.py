"""docs/cos-customizer.md names existing code and an existing test for everything that COS Customizer does."""

import re
from collections.abc import Iterator

import pytest

from tests.project.source_tree import ROOT

PAGE = ROOT / "docs" / "cos-customizer.md"
GOLDEN = [ROOT / "tests" / "shared" / "golden" / name for name in ("bad_specs.txt", "bad_workflows.txt")]
FLAGS = {
    "start-image-build": (
        "-build-context -gcs-bucket -gcs-workdir -image-project -image-name -image-milestone -image-family"
    ),
    "run-script": "-script -env",
    "install-gpu": "-version -md5sum -install-dir -gpu-type -deps-dir -installer-container -get-valid-drivers",
    "anthos-installer-install": "-pkgspec-url -top-workdir",
    "seal-oem": "",
    "disable-auto-update": "",
    "finish-image-build": (
        "-image-project -project -zone -image-name -image-suffix -image-family -deprecate-old-images -old-image-ttl "
        "-labels -licenses -inherit-labels -disk-size-gb -disk-type -machine-type -service-account -network -subnet "
        "-gpu-type -oem-size -timeout -enable-cleanup -sbom-input-path -sbom-output-path"
    ),
    "(global)": "-local-state-workdir -compute-endpoint",
}
ROW = re.compile(r"^\| (?P<what>[^|]+) \| (?P<here>[^|]+) \| (?P<code>[^|]+) \| (?P<test>[^|]+) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
CODE = re.compile(r"`([\w/]+\.(?:py|sh|tf))`")


def rows() -> list[tuple[str, str, str, str]]:
    """Return the rows of all tables without their heads: COS Customizer's feature, ours, code, test."""
    found = [match.groups() for match in ROW.finditer(PAGE.read_text(encoding="utf-8"))]
    return [(a, b, c, d) for a, b, c, d in found if not set(a) <= set("- ") and d != "test"]


def flags() -> Iterator[str]:
    """Yield each step, and each of its flags, as the page writes them."""
    for step, listed in FLAGS.items():
        yield from (f"`{step} {flag}`" for flag in listed.split()) if listed else (f"`{step}`",)


@pytest.mark.parametrize("flag", list(flags()))
def test_every_flag_has_a_row(flag: str) -> None:
    assert any(flag in what for what, *_ in rows()), f"{PAGE.name} has no row for {flag}"


def test_every_row_names_code_and_a_test_that_are_there() -> None:
    assert rows()
    faults = []
    for what, _here, code, test in rows():
        faults += [f"{what}: no code is named"] if not CODE.findall(code) else []
        faults += [f"{what}: there is no {name}" for name in CODE.findall(code) if not (ROOT / name).is_file()]
        faults += [f"{what}: no test is named"] if not TEST.findall(test) else []
        faults += [f"{what}: there is no {path}::{name}" for path, name in TEST.findall(test) if not _is(path, name)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("flag", list(flags()))
def test_a_test_of_every_flag_names_it(flag: str) -> None:
    """In the file of one of the tests in its row, or in the bad specs and workflows that this file reads."""
    word = flag.strip("`").rpartition(" ")[2]
    paths = [path for what, _, _, test in rows() if flag in what for path, _ in TEST.findall(test)]
    texts = [(ROOT / path).read_text(encoding="utf-8") for path in paths]
    texts += [golden.read_text(encoding="utf-8") for golden in GOLDEN for text in texts if golden.name in text]
    assert any(re.search(rf"(?<![\w-]){word}(?![\w-])", text) for text in texts), f"no test of its row names {flag}"


def _is(path: str, name: str) -> bool:
    """Whether a test file has a test, or a class of tests, of that name."""
    file = ROOT / path
    return file.is_file() and bool(
        re.search(rf"^\s*(def|class) {name}\b", file.read_text(encoding="utf-8"), re.MULTILINE)
    )
