"""python -m emulator: Google Cloud on this machine, until Ctrl-C.

0 stopped as asked · 2 bad options · 3 this machine lacks something.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from shared.build.image.channels import read_channels
from shared.build.image.people import read_people
from shared.build.limits import NO_LIMITS, Limits
from shared.errors import EnvironmentFault, GoldsmithError, InputError
from shared.json_values import reader
from shared.names import KEY_VERSION

from .cloud.cloud import Cloud

FAILED, BAD_INPUT, ENVIRONMENT = 1, 2, 3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HOME = Path("build/cloud")
LOOK = 0.2  # seconds between checks for a request to stop


def main(arguments: Sequence[str]) -> int:
    """Run the emulator; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m emulator", description="Google Cloud on this machine.")
    parser.add_argument("--home", type=Path, default=HOME, help=f"folder of its state and images (default: {HOME})")
    parser.add_argument(
        "--boot",
        choices=("direct", "firmware"),
        default="direct",
        help="how instances start: the image's own kernel, in seconds, or boot loader and cloud-init",
    )
    parser.add_argument(
        "--limits",
        type=_limits,
        default=NO_LIMITS,
        metavar="JSON",
        help='what its deployment lets specs ask for: {"adopted_families": ["*"]}; without it, everything',
    )
    parser.add_argument(
        "--channels",
        type=_channels,
        default="{}",
        metavar="JSON",
        help='where its images can be promoted to: {"dev": {}, "prod": {}}; without it, nowhere',
    )
    parser.add_argument(
        "--people",
        type=_people,
        default="{}",
        metavar="JSON",
        help='whose addresses it knows: {"ann": {"addresses": ["ann@example.com"]}}; without it, nobody\'s',
    )
    parser.add_argument(
        "--signing-key",
        type=_key_version,
        metavar="VERSION",
        help="the version of a key of Cloud KMS that signs what is stated of images; made where there is none",
    )
    parser.add_argument(
        "--otlp-endpoint",
        type=_endpoint,
        metavar="URL",
        help="the collector of OpenTelemetry that gets traces of builds: http://127.0.0.1:4318; without it, none",
    )
    options = parser.parse_args(arguments)
    os.umask(0o077)  # of the processes that it starts, too
    try:
        with _asked_to_end() as asked:
            run(options, asked)
    except GoldsmithError as error:
        sys.stderr.write(f"emulator: {error}\n")
        return _status(error)
    except OSError as error:
        sys.stderr.write(f"emulator: {error}\n")
        return ENVIRONMENT
    return 0


def run(options: argparse.Namespace, asked: Event) -> None:
    """Start the emulator, print how to use it, and run until asked to stop."""
    cloud = Cloud(
        options.home,
        boot="firmware" if options.boot == "firmware" else "direct",
        limits=options.limits,
        channels=options.channels,
        people=options.people,
        signing_key=options.signing_key or "",
        otlp_endpoint=options.otlp_endpoint or "",
    )
    with cloud:
        sys.stdout.write(directions(cloud))
        sys.stdout.flush()
        while not asked.wait(LOOK):  # a signal that another thread gets does not wake this one
            continue
        sys.stderr.write("emulator: stopping\n")


def directions(cloud: Cloud) -> str:
    """Return lines for a shell: the environment, and commands to try."""
    environment = cloud.environment(cloud.home / "client")
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(environment.items())]
    place = f"gs://{cloud.bucket}/specs/hello/"
    return "\n".join(
        [
            *lines,
            "",
            "# In another terminal, after the lines above:",
            f"#   gsutil cp examples/hello/preload.sh examples/hello/build.yaml {place}",
            f"#   gcloud compute images list --no-standard-images --project={cloud.project}",
            f"#   gsutil cat 'gs://{cloud.bucket}/results/hello/*'",
            "# Or so, which follows the build:",
            f"#   .venv/bin/goldsmith submit examples/hello/build.yaml --project {cloud.project}",
            f"# All builds, as JSON: {cloud.functions.urls['dashboard']}",
            f"# Logs are below {cloud.home / 'logs'}. Ctrl-C ends it.",
            "",
        ]
    )


@contextmanager
def _asked_to_end() -> Iterator[Event]:
    """Yield an event that Ctrl-C, a closed terminal or `kill` sets."""
    asked = Event()
    before = {number: signal.signal(number, lambda _number, _frame: asked.set()) for number in SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _limits(text: str) -> Limits:
    """Read limits as GOLDSMITH_LIMITS has them."""
    try:
        found: Limits = reader(Limits)(json.loads(text))
    except ValueError as error:
        wanted = '{"adopted_families": ["*"]}'
        raise argparse.ArgumentTypeError(f"{text!r} is not limits as JSON, such as {wanted}; correct it") from error
    return found


def _channels(text: str) -> str:
    """Check channels as GOLDSMITH_CHANNELS has them."""
    try:
        read_channels(text)
    except InputError as error:
        raise argparse.ArgumentTypeError("; ".join(str(error).splitlines())) from error
    return text


def _people(text: str) -> str:
    """Check people as GOLDSMITH_PEOPLE has them."""
    try:
        read_people(text)
    except InputError as error:
        raise argparse.ArgumentTypeError("; ".join(str(error).splitlines())) from error
    return text


def _key_version(text: str) -> str:
    """Check the name of a version of a key, as GOLDSMITH_SIGNING_KEY has it."""
    if not re.fullmatch(KEY_VERSION, text):
        wanted = "projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/1"
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a version of a key, such as {wanted}")
    return text


def _endpoint(text: str) -> str:
    """Check the address of a collector, which has no path."""
    if not re.fullmatch(r"https?://[^\s/]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an address without a path, such as http://127.0.0.1:4318")
    return text


def _status(error: GoldsmithError) -> int:
    if isinstance(error, InputError):
        return BAD_INPUT
    return ENVIRONMENT if isinstance(error, EnvironmentFault) else FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
