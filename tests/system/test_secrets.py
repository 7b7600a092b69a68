"""Secrets of steps, from the command line to the image: in the environment of one step, and nowhere else."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml

from shared.disks.disk import Disk
from tests.provisioner.elements.element_folders import element
from tests.shared.sandbox.ordinary_user import MODES
from tests.system.archives import files_with
from tests.system.command import Document, Goldsmith, prints
from tests.system.sandboxes import ROOT_IN_SOAK, assert_nothing_left, sandboxed
from tests.system.terminal import Terminal

TOKEN = "GS_TEST_TOKEN"
VALUE = "c0ffee/of+the step"
IN_BASE64 = base64.b64encode(VALUE.encode()).decode()
BASE = "debian-12-base"  # the folder of the image that the tests start with
TAKES = """[ "$TOKEN" = "$(printf 'c0ffee/of'; printf '+the step')" ] && echo right "$TOKEN" && echo "$TOKEN" | base64
[ "$FILE" = "$TOKEN" ] && echo same; printf %s "$TOKEN" >/run/held; echo made >/etc/made
"""
PRINTS = 'echo "${TOKEN-none}"; [ ! -e /run/held ] || cat /run/held\n'


def steps(script: str = TAKES) -> list[Document]:
    return [
        {"name": "first", "script": "echo first >/etc/first\n", "reads": []},
        {"name": "takes", "script": script, "secrets": {"TOKEN": f"env:{TOKEN}", "FILE": "file:key"}},
        {"name": "prints", "script": PRINTS},
    ]


HOST_SIDE = """#!/bin/bash
set -eu
[ "$TOKEN" = "$(printf 'c0ffee/of'; printf '+the step')" ] && echo "beside the image $TOKEN"
cd "$TMP_HOOKS_PATH/.."
! grep -rsqF -- "$TOKEN" hooks ./*.json ./environment
"""
IN_IMAGE = """#!/bin/bash
set -eu
echo "in the image $TOKEN, environment.d saw ${SAW}"; date >/etc/elements
"""


OF_ELEMENT = {
    "environment.d/10-own.bash-": "export SAW=${TOKEN-nothing}\n",
    "extra-data.d/10-own": HOST_SIDE,
    "install.d/10-own": IN_IMAGE,
}
OF_SCRIPTS = ("beside the image (hidden)", "in the image (hidden), environment.d saw nothing")


def with_elements(spec: Path, files: dict[str, str]) -> Path:
    """Add a step of an element of one's own to a spec."""
    document = yaml.safe_load(spec.read_text())
    step = {"name": "own", "action": "elements", "inputs": {"elements": ["own"], "path": ["elements"]}}
    document["steps"].append({**step, "secrets": {"TOKEN": f"env:{TOKEN}"}})
    spec.write_text(yaml.safe_dump(document, sort_keys=False))
    element(spec.parent / "context" / "elements", "own", files)
    return spec


def with_key(spec: Path, value: str = VALUE) -> Path:
    key = spec.parent / "key"
    key.write_text(value + "\n")
    key.chmod(0o644)
    return spec


@pytest.mark.slow
@pytest.mark.parametrize("user", ROOT_IN_SOAK, indirect=True)
def test_a_sandbox_s_step_gets_them_and_nothing_has_them(sandboxes: Goldsmith) -> None:
    spec = with_key(sandboxed(sandboxes, steps(), output={"family": "made"}))
    first = sandboxes.run("build", spec, environment={TOKEN: VALUE})
    assert (first.status, VALUE in first.text) == (0, False), first.text
    done = sandboxes.run("build", spec, "--json", environment={TOKEN: VALUE})  # begins after the first step's layer
    assert done.status == 0, done.text
    for expected in ("right (hidden)", "[step takes] (hidden)", "[step takes] same", "[step prints] none"):
        assert expected in done.out
    build = done.documents()[-1]["build"]
    assert VALUE not in done.text
    assert IN_BASE64 not in done.text
    assert files_with(sandboxes.home, VALUE, IN_BASE64, without=BASE) == []
    assert [path.name for path in (sandboxes.home / "cache" / "layers").glob("[0-9a-f]*")] != []
    with Disk(sandboxes.home / "images" / build["image"]["name"] / "disk.raw") as disk:
        assert disk.root.read("/etc/made") == b"made\n"
    assert_nothing_left(sandboxes)


@pytest.mark.slow
@pytest.mark.parametrize("user", MODES[:1], indirect=True)
def test_scripts_of_elements_get_them_and_files_do_not(sandboxes: Goldsmith) -> None:
    spec = with_elements(with_key(sandboxed(sandboxes, steps(), output={"family": "made"})), OF_ELEMENT)
    done = sandboxes.run("build", spec, "--json", environment={TOKEN: VALUE})
    assert done.status == 0, done.text
    for expected in OF_SCRIPTS:
        assert expected in done.out
    fails = {
        **OF_ELEMENT,
        "install.d/20-fails": '#!/bin/bash\necho "the end of $TOKEN"; echo "$TOKEN" | base64; exit 3\n',
    }
    element(spec.parent / "context" / "elements" / "again", "own", fails)
    spec.write_text(spec.read_text().replace("- elements\n", "- elements/again\n"))
    failed = sandboxes.run("build", spec, "--json", environment={TOKEN: VALUE})
    assert (failed.status, "the end of (hidden)" in failed.out) == (1, True), failed.text
    for told in (done, failed):
        assert VALUE not in told.text
        assert IN_BASE64 not in told.text
    assert files_with(sandboxes.home, VALUE, IN_BASE64, without=BASE) == []
    assert_nothing_left(sandboxes)


@pytest.mark.slow
def test_an_image_with_a_value_in_it_is_not_made(sandboxes: Goldsmith) -> None:
    leaks = "mkdir -p /usr/lib/app; printf 'user:%s' \"$TOKEN\" | base64 >/usr/lib/app/login\n"
    spec = with_key(sandboxed(sandboxes, steps(leaks)))
    done = sandboxes.run("build", spec, environment={TOKEN: VALUE})
    assert done.status == 1
    assert "/usr/lib/app/login holds the value of takes.secrets.FILE; let the step keep it out of files" in done.text
    assert "/usr/lib/app/login holds the value of takes.secrets.TOKEN" in done.text
    assert VALUE not in done.text
    assert sandboxes.images() == []
    encoded = base64.b64encode(b"user:" + VALUE.encode()).decode()
    assert files_with(sandboxes.home, VALUE, encoded, without=BASE) == []


@pytest.mark.slow
@pytest.mark.parametrize("user", MODES[:1], indirect=True)
def test_a_killed_build_leaves_none(sandboxes: Goldsmith) -> None:
    spec = with_key(sandboxed(sandboxes, steps(TAKES + "sleep 100\n")))
    running = sandboxes.start("build", spec, "--json", environment={TOKEN: VALUE})
    running.until(prints("same"))
    running.kill()
    sandboxes.traces.wait_for_no_process()
    assert files_with(sandboxes.home, VALUE, IN_BASE64, without=BASE) == []
    [build] = sandboxes.builds()
    done = sandboxes.run("builds", "resume", build["id"])
    assert [build["outcome"] for build in sandboxes.builds()] == ["cancelled"], done.text
    assert_nothing_left(sandboxes)


@pytest.mark.slow
@pytest.mark.parametrize("user", MODES[:1], indirect=True)
def test_unfit_secrets_are_refused_before_anything_is_made(sandboxes: Goldsmith) -> None:
    spec = with_key(sandboxed(sandboxes, steps()))
    done = sandboxes.run("build", spec)
    assert (done.status, TOKEN in done.err) == (2, True), done.text
    done = sandboxes.run("build", spec, environment={TOKEN: "short"})
    assert (done.status, "has 5 bytes" in done.err, "short" not in done.err) == (2, True, True), done.text
    there = spec.read_text().replace(f"env:{TOKEN}", "projects/p/secrets/s/versions/1")
    spec.write_text(there)
    done = sandboxes.run("plan", spec)
    assert (done.status, "is on Google Cloud" in done.err) == (2, True), done.text
    assert sandboxes.builds() == []


ASKS = """python3 - <<'END'
import hmac, json, urllib.error, urllib.request
job = json.load(open("/run/goldsmith/cidata/job.json"))
body = b"give the secrets of the steps"
signature = hmac.new(bytes.fromhex(job["key"]), body, "sha256").hexdigest()
try:
    request = urllib.request.Request(job["secrets_url"], body, {"Goldsmith-Signature": signature})
    print("given " + "away", urllib.request.urlopen(request))
except urllib.error.HTTPError as error:
    print("answer", error.code)
END
"""


@pytest.mark.slow
@pytest.mark.parametrize("user", MODES[:1], indirect=True)
def test_a_shell_where_the_step_has_failed_has_none(sandboxes: Goldsmith) -> None:
    spec = with_key(sandboxed(sandboxes, steps("exit 3\n")))
    line = sandboxes.line("build", spec, "--on-failure", "shell", "--with-secrets")
    with Terminal(line, {**sandboxes.environment, TOKEN: VALUE}) as terminal:
        terminal.until("abort: give up")
        terminal.until(" # ")
        terminal.type('echo "has <$TOKEN>"; retry\n')
        terminal.until("has <>")
        terminal.until("step takes has secrets, which a held machine is not given; write: continue")
        terminal.type(ASKS)
        assert "given away" not in terminal.until("answer 410")
        terminal.type("abort\n")
        assert terminal.finish() == 1


@pytest.mark.vm
def test_a_virtual_machine_s_step_gets_them_and_nothing_has_them(goldsmith: Goldsmith) -> None:
    spec = with_elements(with_key(goldsmith.spec(steps(), output={"family": "made"})), OF_ELEMENT)
    done = goldsmith.run("build", spec, "--json", environment={TOKEN: VALUE})
    assert done.status == 0, done.text
    for expected in ("right (hidden)", "[step takes] (hidden)", "[step takes] same", "[step prints] none", *OF_SCRIPTS):
        assert expected in done.out
    assert VALUE not in done.text
    assert IN_BASE64 not in done.text
    assert files_with(goldsmith.home, VALUE, IN_BASE64, without=BASE) == []
    goldsmith.traces.assert_none()
