"""All of Google Cloud on this machine: quickly there, quickly gone, and nothing left whatever happens to it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emulator.cloud.cloud import BUCKET, PROJECT, Cloud
from goldsmith.places import default_bucket
from shared.errors import EnvironmentFault
from shared.ports import Message
from shared.topology import FUNCTIONS, SUBSCRIPTIONS
from tests.emulator.listener import SECONDS

ROOT = Path(__file__).resolve().parents[3]
STOPS_WITHIN = SECONDS


def test_goldsmith_needs_no_bucket() -> None:
    assert default_bucket(PROJECT) == BUCKET


def descendants(pid: int) -> dict[int, str]:
    """All processes below one, with their command lines."""
    children: dict[int, list[int]] = {}
    lines: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()
            lines[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        children.setdefault(int(state[1]), []).append(int(folder.name))
    found, pending = {}, list(children.get(pid, []))
    while pending:
        child = pending.pop()
        found[child] = lines[child]
        pending += children.get(child, [])
    return found


def is_running(pid: int, line: str) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace") == line != ""
    except (FileNotFoundError, ProcessLookupError):
        return False


PROBE = "isa-debug-exit"  # of KVM: it was ended before, and the kernel may take a minute to let a KVM that hangs go


def wait_for_the_end_of(processes: dict[int, str]) -> None:
    end = time.monotonic() + SECONDS
    while left := {pid: line for pid, line in processes.items() if is_running(pid, line)}:
        assert time.monotonic() < end, left
        time.sleep(0.05)


@contextmanager
def emulator(home: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run `python -m emulator`; give it, and the environment that it prints."""
    command = [sys.executable, "-m", "emulator", "--home", str(home)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            variables: dict[str, str] = {}
            while (line := process.stdout.readline()).strip():
                name, _, value = line.removeprefix("export ").partition("=")
                [variables[name]] = shlex.split(value)
            yield process, variables
        finally:
            process.kill()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with Cloud(tmp_path_factory.mktemp("cloud")) as made:
        yield made


class TestOneCloud:
    def test_every_function_answers(self, cloud: Cloud) -> None:
        url = f"{cloud.functions.urls['dashboard']}/builds"
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            assert json.load(answer) == {"builds": [], "next": None}
        for page in ("families", "images", "trends", "health", "docs/spec"):
            with urllib.request.urlopen(f"{url.removesuffix('builds')}api/{page}", timeout=SECONDS) as answer:
                assert not json.load(answer).get("faults")
        assert set(cloud.functions.urls) == {each.name for each in FUNCTIONS}
        cloud.scheduler.step("expire-builds")

    def test_second_one_of_the_same_home_is_refused(self, cloud: Cloud) -> None:
        with pytest.raises(EnvironmentFault, match=re.escape(f"{cloud.home} is in use by another emulator; stop that")):
            Cloud(cloud.home).start()

    def test_upload_reaches_start_build_and_leaves_its_result(self, cloud: Cloud) -> None:
        upload(cloud, "specs/bad.yaml", b"name: [")
        end = time.monotonic() + SECONDS
        while not (names := objects(cloud, "results/")):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert re.fullmatch(r"results/bad-\d+\.json", names[0])
        entries = [json.loads(line) for line in cloud.functions.log("start_build").read_text().splitlines()]
        assert any(entry.get("build_id", "").startswith("bad-") for entry in entries)

    def test_poison_is_delivered_once(self, cloud: Cloud) -> None:
        cloud.router.wait_until_idle()
        before = cloud.router.deliveries
        topics = ("build-requests", "build-events", "build-reports")
        for topic in topics:
            cloud.pubsub.publish(Message(topic, b"no JSON", {}))
        cloud.router.wait_until_idle()
        assert cloud.router.deliveries - before == sum(each.topic in topics for each in SUBSCRIPTIONS)

    def test_function_that_was_killed_in_its_work_is_called_again(self, cloud: Cloud) -> None:
        with cloud.router.duplicating(3):
            upload(cloud, "specs/worse.yaml", b"name: {")
            workers = descendants(cloud.functions.pid("start_build"))
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            end = time.monotonic() + SECONDS
            while not objects(cloud, "results/worse"):
                assert time.monotonic() < end
                time.sleep(0.1)

    def test_close_leaves_no_process_and_may_be_called_again(self, tmp_path: Path) -> None:
        before = descendants(os.getpid())
        cloud = Cloud(tmp_path / "home")
        cloud.start()
        own = {pid: line for pid, line in descendants(os.getpid()).items() if pid not in before}
        assert sum("emulator.cloud.function_process" in line for line in own.values()) == 2 * len(FUNCTIONS)
        began = time.monotonic()
        cloud.close()
        assert time.monotonic() - began < STOPS_WITHIN
        cloud.close()
        wait_for_the_end_of(own)


def upload(cloud: Cloud, name: str, data: bytes) -> None:
    url = f"{cloud.storage.url}/upload/storage/v1/b/{cloud.bucket}/o?uploadType=media&name={name.replace('/', '%2F')}"
    headers = {"Content-Type": "text/plain"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=SECONDS) as answer:
        assert answer.status == 200


def objects(cloud: Cloud, prefix: str) -> list[str]:
    url = f"{cloud.storage.url}/storage/v1/b/{cloud.bucket}/o?prefix={prefix.replace('/', '%2F')}"
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        return [item["name"] for item in json.load(answer).get("items", [])]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, *(pytest.param(each, marks=pytest.mark.soak) for each in (signal.SIGTERM, signal.SIGHUP))]
)
def test_program_says_how_to_use_it_and_ends_when_asked(tmp_path: Path, number: signal.Signals) -> None:
    with emulator(tmp_path / "home") as (process, variables):
        for name in ("PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST", "BOTO_CONFIG", "CLOUDSDK_CONFIG"):
            assert variables[name]
        assert process.stdout is not None
        own = descendants(process.pid)
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(SECONDS) == 0
        assert time.monotonic() - began < STOPS_WITHIN
        directions = process.stdout.read()
        assert "gsutil cp examples/hello/preload.sh examples/hello/build.yaml gs://" in directions
        assert f"goldsmith submit examples/hello/build.yaml --project {PROJECT}\n" in directions
        assert "# All builds, as JSON: http://127.0.0.1:" in directions
        wait_for_the_end_of(own)


def test_nothing_is_left_after_kill_9(tmp_path: Path) -> None:
    with emulator(tmp_path / "home") as (process, _variables):
        own = descendants(process.pid)
        assert sum("java" in line for line in own.values()) == 2
        assert sum("emulator.cloud.function_process" in line for line in own.values()) == 2 * len(FUNCTIONS)
        process.kill()
        wait_for_the_end_of(own)
    with emulator(tmp_path / "home") as (_process, variables):  # and the home can be used again
        assert variables


@pytest.mark.vm
def test_no_machine_is_left_after_kill_9(debian_home: Path) -> None:
    with emulator(debian_home) as (process, variables):
        zone = f"{variables['CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE']}projects/p-emulator/zones/us-central1-a"
        disk = {"boot": True, "initializeParams": {"sourceImage": "global/images/family/debian-12"}}
        body = {
            "name": "left-behind",
            "machineType": "zones/us-central1-a/machineTypes/n1-standard-1",
            "disks": [disk],
            "networkInterfaces": [{}],
        }
        request = urllib.request.Request(
            f"{zone}/instances", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            assert answer.status == 200
        end = time.monotonic() + SECONDS
        while "process=goldsmith-vm" not in " ".join((own := descendants(process.pid)).values()):
            assert time.monotonic() < end, own
            time.sleep(0.1)
        process.kill()
        own = {pid: line for pid, line in own.items() if PROBE not in line}
        wait_for_the_end_of(own)


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "told"),
    [
        (["--home", "HOME"], {"CLOUDSDK_ROOT": "/nowhere"}, 3, "emulator: /nowhere/platform/pubsub-emulator/lib/"),
        (["--home", "HOME"], {"PATH": ""}, 3, "emulator: the gcloud SDK is not installed (no gcloud on PATH"),
        (["--home", "/proc/x"], {}, 3, "emulator: /proc/x: No such file or directory; set --home to a folder"),
        (["--boot", "pxe"], {}, 2, "invalid choice: 'pxe'"),
        (["--limits", "{"], {}, 2, "argument --limits: '{' is not limits as JSON, such as {"),
        (["--channels", '{"eu-prod": {}}'], {}, 2, "argument --channels: 'eu-prod' is no name of a channel"),
        (["--limits", '{"adopted_families": ["*"]}', "--home", "/proc/x"], {}, 3, "emulator: /proc/x: No such file"),
    ],
)
def test_what_cannot_work_is_told(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], status: int, told: str
) -> None:
    command = [sys.executable, "-m", "emulator", *(word.replace("HOME", str(tmp_path)) for word in arguments)]
    clean = {name: value for name, value in os.environ.items() if name != "CLOUDSDK_ROOT"}
    done = subprocess.run(
        command, cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
