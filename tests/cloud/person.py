"""A person with Google's own command lines, a folder of specs, and a home that holds nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import google.cloud.storage as storage
import requests
from google.auth.credentials import AnonymousCredentials

from shared.build.build import Build
from shared.build.damage import readable_builds
from shared.build.events import Event
from shared.engine.history import each_event
from shared.gcp.firestore import GoogleStore

ROOT = Path(__file__).resolve().parents[2]
HELLO = ROOT / "examples" / "hello"
LIMIT = 300  # seconds for one command
FINISHES_WITHIN = 900.0  # seconds; a build takes some 20 on a quiet machine, and minutes beside much else
POLL = 0.5


@dataclass(frozen=True)
class Person:
    """Runs commands in the environment that the emulator prints."""

    folder: Path
    environment: Mapping[str, str]
    project: str
    bucket: str
    compute_url: str
    checkout: Path = ROOT
    launcher: Path = ROOT / ".venv" / "bin" / "goldsmith"

    def run(self, *words: str | Path, status: int = 0) -> str:
        """Run a command; return its standard output, and what it complained of when that was expected."""
        done = subprocess.run(
            words,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.environment},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=FINISHES_WITHIN,
        )
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + (done.stderr if status else "")

    def gcloud(self, *words: str) -> Any:
        """Run gcloud; give what its JSON says."""
        return json.loads(self.run("gcloud", *words, f"--project={self.project}", "--format=json", "--quiet") or "null")

    def goldsmith(self, *words: str | Path, status: int = 0) -> str:
        """Run goldsmith on the project."""
        command = [self.launcher, *words, "--project", self.project, "--bucket", self.bucket]
        return self.run(*command, status=status)

    def logged_in(self, key: Path) -> Person:
        """Return the same person, whose gcloud acts as the service account of a key."""
        return replace(self, environment={**self.environment, "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE": str(key)})

    def token(self, audience: str) -> str:
        """Return an identity token of the account that gcloud acts as."""
        return self.run("gcloud", "auth", "print-identity-token", f"--audiences={audience}").strip()

    def waiting(self, count: int) -> list[Any]:
        """Wait until so many promotions wait for approval; return them."""
        give_up = time.monotonic() + LIMIT
        while len(found := json.loads(self.goldsmith("images", "approvals", "--json"))) != count:
            assert time.monotonic() < give_up, found
            time.sleep(POLL)
        return list(found)

    def spec(self, name: str, *, replace: Mapping[str, str] | None = None, add: str = "") -> Path:
        """Write a copy of the hello example under another name, with changes; return its folder."""
        folder = self.folder / name
        shutil.copytree(HELLO, folder)
        text = (folder / "build.yaml").read_text().replace("name: hello", f"name: {name}", 1)
        for old, new in (replace or {}).items():
            assert old in text, old
            text = text.replace(old, new)
        (folder / "build.yaml").write_text(text + add)
        return folder

    def upload(self, folder: Path) -> None:
        """Upload a spec with gsutil as the README says: its files first."""
        there = f"gs://{self.bucket}/specs/{folder.name}/"
        for name in ("preload.sh", "build.yaml"):
            self.run("gsutil", "-q", "cp", folder / name, there)

    def results(self, prefix: str) -> list[Any]:
        """Return all results below a prefix, the oldest first."""
        blobs = sorted(self._storage.list_blobs(self.bucket, prefix=f"results/{prefix}"), key=lambda b: b.time_created)
        told = [
            blob
            for blob in blobs
            if not blob.name.endswith((".spdx.json", ".cdx.json", ".intoto.json", ".intoto.jsonl"))
        ]
        return [json.loads(blob.download_as_bytes()) for blob in told]

    def result(self, prefix: str, count: int = 1) -> Any:
        """Wait for the newest of `count` results below a prefix; one that says that something is left is none yet."""
        give_up = time.monotonic() + FINISHES_WITHIN
        while time.monotonic() < give_up:
            done = [document for document in self.results(prefix) if not document["left"]]
            if len(done) >= count:
                return done[-1]
            time.sleep(POLL)
        raise AssertionError(f"no result below {prefix}: {self.results(prefix)}, {self.builds()}")

    def builds(self) -> list[Build]:
        """Return all builds, as Firestore has them."""
        return list(readable_builds(self._store.builds()))

    def events(self, build_id: str) -> list[Event]:
        """Return the events of a build."""
        return list(each_event(self._store, build_id))

    def wait_until(self, moment: float) -> None:
        """Wait until a moment, in Unix seconds."""
        while time.time() < moment:
            time.sleep(POLL)

    def build(self, name: str) -> Build:
        """Wait for the newest build of a spec's name to be there."""
        return self.until(name, lambda _build: True)

    def until(self, name: str, holds: Any, within: float = FINISHES_WITHIN) -> Build:
        """Wait until something holds of the newest build of a spec's name."""
        give_up = time.monotonic() + within
        while time.monotonic() < give_up:
            for build in self.builds():
                if build.name == name and holds(build):
                    return build
            time.sleep(POLL)
        raise AssertionError(f"{name}: {[(b.id, b.state, b.outcome, b.reason) for b in self.builds()]}")

    def finished(self, name: str) -> Build:
        """Wait for the end of the newest build of a spec's name."""
        return self.until(name, lambda build: build.finished)

    def hear(self, build: Build, machine: str, word: str) -> None:
        """Wait until a VM's console says a word."""
        url = f"{self.compute_url}/compute/v1/projects/{self.project}/zones/{build.zone}/instances/{machine}/serialPort"
        give_up = time.monotonic() + FINISHES_WITHIN
        while word not in requests.get(url, timeout=LIMIT).json().get("contents", ""):
            assert time.monotonic() < give_up, f"{machine} has not said {word}"
            time.sleep(POLL)

    def resources(self, kind: str) -> list[str]:
        """Return the names of all instances or disks of the project."""
        answer = requests.get(f"{self.compute_url}/compute/v1/projects/{self.project}/aggregated/{kind}", timeout=LIMIT)
        found = answer.json()["items"].values()
        return [resource["name"] for scope in found for resource in scope.get(kind, [])]

    @cached_property
    def _storage(self) -> storage.Client:
        options = {"api_endpoint": self.environment["STORAGE_EMULATOR_HOST"]}
        return storage.Client(self.project, credentials=AnonymousCredentials(), client_options=options)

    @cached_property
    def _store(self) -> GoogleStore:
        return GoogleStore(self.project, self.environment["FIRESTORE_EMULATOR_HOST"])
