"""The steps' secrets: fetched once a boot, in one step's environment, hidden in all output, and in no file."""

from __future__ import annotations

import base64
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from provisioner.job.step_secrets import SecretsMissing, fetch_secrets
from provisioner.protocol import SECRETS_REQUEST, Job, sign
from tests.provisioner.provisioning import KEY, Provisioning, job, script

ROOT = Path(__file__).resolve().parents[3]
VALUE = "tok/3n+of the repository"
PLACE = "env:SOMEWHERE"


class Giver(ThreadingHTTPServer):
    """A host that gives one secret, or answers with a status."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.heard: list[tuple[str, bytes, str]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/goldsmith/secrets"


class Handler(BaseHTTPRequestHandler):
    server: Giver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((self.path, body, self.headers["Goldsmith-Signature"]))
        answer = json.dumps({PLACE: base64.b64encode(VALUE.encode()).decode()}).encode()
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self) -> None:
        """Play the metadata server, and Secret Manager."""
        self.server.heard.append((self.path, b"", self.headers["Authorization"] or self.headers["Metadata-Flavor"]))
        status = 200
        if self.path == "/token":
            answer = b'{"access_token": "of-the-vm", "expires_in": 3599}'
        elif self.path.endswith("/versions/3:access"):
            data = base64.b64encode(VALUE.encode() + b"\n").decode()
            answer = json.dumps({"name": self.path, "payload": {"data": data}}).encode()
        else:
            status, answer = (
                404,
                json.dumps({"error": {"code": 404, "message": "Secret version is not there"}}).encode(),
            )
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name for it
        """Say nothing."""


@pytest.fixture
def giver() -> Iterator[Giver]:
    with Giver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def wanted(giver: Giver, retries: int = 0) -> Job:
    with_secret = script("uses", secrets={"TOKEN": PLACE}, retries=retries)
    return replace(job(script("before"), with_secret, script("after")), secrets_url=giver.url)


SCRIPTS = {
    "before": "echo before=${TOKEN-none}\n",
    "uses": """echo "uses=$TOKEN"; printf 'tok/3n+'; sleep 0.1; echo 'of the repository'
printf 'user:%s' "$TOKEN" | base64
python3 -c 'import os, urllib.parse; print(urllib.parse.quote(os.environ["TOKEN"], safe=""))'
[ "$(printf %s "$TOKEN" | cksum)" = "$(cat sum)" ] && echo right
mkdir -p /dev/shm; printf %s "$TOKEN" >"$HELD"
""",
    "after": 'echo after=${TOKEN-none}; cat "$HELD"; rm "$HELD"\n',
}


def files_with(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_one_step_gets_it_and_no_file_or_output_has_it(giver: Giver, tmp_path: Path) -> None:
    held = Path(f"/dev/shm/{tmp_path.name}-{os.getpid()}")
    files = {**SCRIPTS, "sum": _checksum(VALUE)}
    machine = Provisioning(tmp_path / "m", wanted(giver), files, env={"HELD": str(held)})
    wants = replace(
        machine.job,
        steps=tuple(replace(step, inputs={**step.inputs, "env": {"HELD": str(held)}}) for step in machine.job.steps),
    )
    machine.write_cidata(wants)
    ended = machine.run()
    assert ended.status == 0, ended.console
    assert giver.heard == [("/goldsmith/secrets", SECRETS_REQUEST, sign(KEY, SECRETS_REQUEST))]
    lines = [line.partition("] ")[2] for line in ended.console.splitlines() if line.startswith("[step ")]
    assert lines[:3] == ["before=none", "uses=(hidden)", "(hidden)"]
    assert lines[4:] == ["(hidden)", "right", "after=none", "(hidden)"]
    for shown in (
        VALUE,
        base64.b64encode(VALUE.encode()).decode()[:12],
        base64.b64encode(b"user:" + VALUE.encode()).decode()[8:20],
    ):
        assert shown not in ended.console
        assert files_with(tmp_path, shown) == []


def test_a_failure_reports_nothing_of_it(giver: Giver, tmp_path: Path) -> None:
    files = {**SCRIPTS, "uses": 'echo "$TOKEN" >&2; exit 3\n'}
    machine = Provisioning(tmp_path / "m", wanted(giver, retries=1), files)
    assert machine.run().status == 1
    [failed] = [report for report in machine.reports() if report.kind == "failed"]
    assert (failed.exit_status, failed.output) == (3, "(hidden)\n")
    assert len(giver.heard) == 1
    assert files_with(tmp_path, VALUE) == []


def test_a_host_that_gives_nothing_fails_the_job(giver: Giver, tmp_path: Path) -> None:
    giver.statuses = [503, 410]
    machine = Provisioning(tmp_path / "m", wanted(giver), SCRIPTS)
    assert machine.run().status == 1
    [failed] = [report for report in machine.reports() if report.kind == "failed"]
    assert failed.message == "the secrets of the steps cannot be fetched: HTTP 410"
    assert machine.kinds() == ["failed"]


def keeps_layers(giver: Giver, folder: Path) -> Provisioning:
    """A machine whose disk the host keeps after the first step, which shows when it runs."""
    before = f"python3 -c 'import urllib.request; urllib.request.urlopen(\"{giver.url}/before\")' 2>/dev/null || true\n"
    files = {"before": before, "uses": 'echo "uses=$TOKEN"\n', "after": ""}
    return Provisioning(folder, replace(wanted(giver), layers=(0,)), files)


def test_none_is_in_a_machine_s_memory_while_its_disk_is_kept(giver: Giver, tmp_path: Path) -> None:
    """The machine may swap, and a layer is given to other builds."""
    ended = keeps_layers(giver, tmp_path / "m").run()
    assert ended.status == 0, ended.console
    assert [path for path, _, _ in giver.heard] == ["/goldsmith/secrets/before", "/goldsmith/secrets"]
    assert "[step uses] uses=(hidden)\n" in ended.console


def test_a_host_that_gives_nothing_later_fails_the_step_that_is_next(giver: Giver, tmp_path: Path) -> None:
    giver.statuses = [200, 410]
    machine = keeps_layers(giver, tmp_path / "m")
    assert machine.run().status == 1
    assert machine.kinds() == ["started", "step-started", "step-finished", "failed"]
    failed = machine.reports()[-1]
    assert (failed.step, failed.message) == (1, "the secrets of the steps cannot be fetched: HTTP 410")


def test_a_crash_leaves_no_memory_in_a_file(giver: Giver, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        machine = Provisioning(tmp_path / "m", wanted(giver), dict.fromkeys(SCRIPTS, "echo core: $(ulimit -S -c)\n"))
        ended = machine.run()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert ended.console.count("core: 0\n") == 3, ended.console


def test_a_value_is_the_same_bytes_in_a_locale_without_other_letters() -> None:
    program = """import os, sys
from provisioner.job.step_secrets import StepSecrets
from provisioner.protocol import Step
value = bytes(range(1, 256))
step = Step("s", "run-script", {"script": "s"}, secrets={"TOKEN": "env:T"})
assert sys.getfilesystemencoding() != "utf-8"
assert os.fsencode(StepSecrets({"env:T": b"\\xc3\\xa4" + value}).of(step)["TOKEN"]) == b"\\xc3\\xa4" + value
"""
    environment = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, check=True)


def test_a_job_without_secrets_asks_for_none(giver: Giver, tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", replace(job(script("before")), secrets_url=giver.url), SCRIPTS)
    assert machine.run().status == 0
    assert giver.heard == []


def on_google_cloud(giver: Giver, version: int = 3) -> Job:
    """A job whose machine fetches its secret itself."""
    place = f"projects/p/secrets/s/versions/{version}"
    base = giver.url.removesuffix("/goldsmith/secrets")
    return replace(
        job(script("uses", secrets={"TOKEN": place}), script("after"), hygiene="warn"),
        secrets_url=f"{base}/v1/",
        token_url=f"{base}/token",
    )


def test_a_vm_of_google_cloud_fetches_with_its_own_account(giver: Giver, tmp_path: Path) -> None:
    giver.statuses = [200, 503]
    files = {"uses": f'[ "$TOKEN" = "{VALUE}" ] && echo right "$TOKEN"\n', "after": "echo ${TOKEN-none}\n"}
    machine = Provisioning(tmp_path / "m", on_google_cloud(giver), files)
    ended = machine.run()
    assert ended.status == 0, ended.console
    assert "[step uses] right (hidden)" in ended.console
    assert "[step after] none" in ended.console
    token, access = ("/token", b"", "Google"), ("/v1/projects/p/secrets/s/versions/3:access", b"", "Bearer of-the-vm")
    assert giver.heard == [token, access] * 2
    assert VALUE.encode() not in machine.port.read_bytes()


def test_a_version_that_is_not_there_fails_the_job_in_google_s_words(giver: Giver, tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", on_google_cloud(giver, 4), SCRIPTS)
    assert machine.run().status == 1
    [failed] = [report for report in machine.reports() if report.kind == "failed"]
    place = "projects/p/secrets/s/versions/4"
    assert failed.message == (
        f"the secrets of the steps cannot be fetched: {place}: HTTP 404: Secret version is not there; look at the "
        "project, the name and the number in the spec"
    )


@pytest.mark.parametrize(
    ("statuses", "told"),
    [
        ([200, 403], "HTTP 403: Secret version is not there; look whether build.service_account has roles/"),
        ([200, 400], "HTTP 400: Secret version is not there; enable the version, or name another one"),
        ([200, 301], "HTTP 301"),
        ([200, 429, 200, 403], "HTTP 403"),
        ([404, 200, 403], "HTTP 403"),
    ],
)
def test_what_secret_manager_refuses_is_told_with_a_remedy(giver: Giver, statuses: list[int], told: str) -> None:
    """Where another try may help, there is one; no answer leads to another host."""
    giver.statuses = list(statuses)
    with pytest.raises(SecretsMissing) as raised:
        fetch_secrets(on_google_cloud(giver, 4))
    assert told in str(raised.value)
    assert (giver.statuses, len(giver.heard)) == ([], len(statuses))


def test_a_vm_of_google_cloud_searches_its_own_files(giver: Giver, tmp_path: Path) -> None:
    """Also those of packages, and whatever findings lead to."""
    root = tmp_path / "m" / "root"
    files = {"uses": f'mkdir -p {root}/usr/lib/app; echo "x$TOKEN" | base64 >{root}/usr/lib/app/login\n', "after": ""}
    machine = Provisioning(tmp_path / "m", on_google_cloud(giver), files)
    (machine.root / "usr/lib").mkdir(parents=True)
    (machine.root / "usr/lib/of-the-source").write_text(VALUE)
    assert machine.run().status == 1
    [failed] = [report for report in machine.reports() if report.kind == "failed"]
    assert failed.message.startswith(
        "must not be in an image: /usr/lib/app/login holds the value of uses.secrets.TOKEN;"
    )


def _checksum(text: str) -> str:
    return subprocess.run(["cksum"], input=text, capture_output=True, text=True, check=True).stdout
