"""Google's own emulators of Pub/Sub and Firestore, out of the gcloud SDK.

They are started without gcloud: killing its wrapper leaves the Java process behind.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from shared.errors import EnvironmentFault, MissingTool

from ..web.http_server import LOOPBACK
from ..web.processes import ChildProcess, Processes, free_port

PUBSUB_JAR = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar"
FIRESTORE_JAR = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
PACKAGES: Mapping[str, str] = {
    PUBSUB_JAR: "google-cloud-cli-pubsub-emulator",
    FIRESTORE_JAR: "google-cloud-cli-firestore-emulator",
}
"""Which package of Google's apt repository has an emulator."""

# A short life on few cores: no compiler threads that optimize for hours of work, no parallel garbage collector.
_JAVA = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m")


class GoogleEmulators:
    """Both emulators, empty, from start() until close(); their logs are below `folder`. A context manager."""

    def __init__(self, folder: Path, *, sdk: Path | None = None) -> None:
        self._sdk = sdk or sdk_folder()
        self._folder = folder
        self._processes = Processes()
        self._hosts: dict[str, str] = {}

    def start(self) -> None:
        """Start both side by side and wait until they answer. EnvironmentFault, MissingTool."""
        pubsub_port, firestore_port = free_port(), free_port()
        try:
            started = (
                (self._start("pubsub", _pubsub(self._sdk, pubsub_port)), pubsub_port, "PUBSUB_EMULATOR_HOST"),
                (
                    self._start("firestore", _firestore(self._sdk, firestore_port)),
                    firestore_port,
                    "FIRESTORE_EMULATOR_HOST",
                ),
            )
            for child, port, variable in started:
                child.wait_until_ready(f"http://{LOOPBACK}:{port}/")
                self._hosts[variable] = f"{LOOPBACK}:{port}"
        except BaseException:
            self.close()
            raise

    def environment(self) -> Mapping[str, str]:
        """Return PUBSUB_EMULATOR_HOST and FIRESTORE_EMULATOR_HOST, which Google's clients read."""
        return dict(self._hosts)

    def close(self) -> None:
        """Stop both; what they held is gone."""
        self._processes.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, name: str, arguments: list[str]) -> ChildProcess:
        if shutil.which("java") is None:
            raise MissingTool("java", "default-jre-headless")
        command = ["java", *_JAVA, *arguments]
        return self._processes.start(f"Google's {name} emulator", command, self._folder / f"{name}.log")


def sdk_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the gcloud SDK's folder: CLOUDSDK_ROOT, or where `gcloud` on PATH is. EnvironmentFault."""
    if root := environment.get("CLOUDSDK_ROOT"):
        return Path(root)
    gcloud = shutil.which("gcloud", path=environment.get("PATH", os.defpath))
    if gcloud is None:
        raise EnvironmentFault(
            "the gcloud SDK is not installed (no gcloud on PATH, no CLOUDSDK_ROOT); add Google's apt repository "
            "(https://cloud.google.com/sdk/docs/install#deb) and run: apt-get install google-cloud-cli "
            + " ".join(PACKAGES.values())
        )
    return Path(gcloud).resolve().parents[1]


def _pubsub(sdk: Path, port: int) -> list[str]:
    return ["-jar", str(_jar(sdk, PUBSUB_JAR)), f"--host={LOOPBACK}", f"--port={port}"]


def _firestore(sdk: Path, port: int) -> list[str]:
    # Its error texts follow the language, and it opens a second port, for browsers, which would be 9150 each time.
    main = ["-cp", str(_jar(sdk, FIRESTORE_JAR)), "com.google.cloud.datastore.emulator.firestore.CloudFirestore"]
    return ["-Duser.language=en", *main, f"--host={LOOPBACK}", f"--port={port}", f"--websocket_port={free_port()}"]


def _jar(sdk: Path, pattern: str) -> Path:
    found = sorted(sdk.glob(pattern))
    if not found:
        raise EnvironmentFault(
            f"{sdk / pattern} is not there; install it with: apt-get install {PACKAGES[pattern]} "
            "(or, for an SDK that is not from apt: gcloud components install "
            f"{'pubsub-emulator' if pattern == PUBSUB_JAR else 'cloud-firestore-emulator'})"
        )
    return found[-1]
