"""COS Customizer's command line: its subcommands and their flags."""

from __future__ import annotations

from collections.abc import Mapping

from .go_flags import Kind

START, FINISH = "start-image-build", "finish-image-build"
RUN_SCRIPT, INSTALL_GPU, INSTALL_ANTHOS = "run-script", "install-gpu", "anthos-installer-install"
SEAL_OEM, DISABLE_AUTO_UPDATE = "seal-oem", "disable-auto-update"
ASIDE = ("help", "flags")  # they only print

STATE = "local-state-workdir"
GLOBAL_FLAGS: Mapping[str, Kind] = {STATE: Kind.TEXT}

SUBCOMMANDS: Mapping[str, Mapping[str, Kind]] = {
    START: {
        "build-context": Kind.TEXT,
        "gcs-bucket": Kind.TEXT,
        "gcs-workdir": Kind.TEXT,
        "image-project": Kind.TEXT,
        "image-name": Kind.TEXT,
        "image-milestone": Kind.NUMBER,
        "image-family": Kind.TEXT,
    },
    RUN_SCRIPT: {"script": Kind.TEXT, "env": Kind.PAIRS},
    INSTALL_GPU: {
        "version": Kind.TEXT,
        "md5sum": Kind.TEXT,
        "install-dir": Kind.TEXT,
        "gpu-type": Kind.TEXT,
        "get-valid-drivers": Kind.SWITCH,
        "deps-dir": Kind.TEXT,
        "installer-container": Kind.TEXT,
    },
    INSTALL_ANTHOS: {"pkgspec-url": Kind.TEXT, "top-workdir": Kind.TEXT},
    SEAL_OEM: {},
    DISABLE_AUTO_UPDATE: {},
    FINISH: {
        "image-project": Kind.TEXT,
        "project": Kind.TEXT,
        "zone": Kind.TEXT,
        "image-name": Kind.TEXT,
        "image-suffix": Kind.TEXT,
        "image-family": Kind.TEXT,
        "deprecate-old-images": Kind.SWITCH,
        "old-image-ttl": Kind.NUMBER,
        "labels": Kind.PAIRS,
        "licenses": Kind.LIST,
        "inherit-labels": Kind.SWITCH,
        "disk-size-gb": Kind.NUMBER,
        "disk-type": Kind.TEXT,
        "machine-type": Kind.TEXT,
        "service-account": Kind.TEXT,
        "network": Kind.TEXT,
        "subnet": Kind.TEXT,
        "gpu-type": Kind.TEXT,
        "oem-size": Kind.TEXT,
        "timeout": Kind.DURATION,
        "enable-cleanup": Kind.SWITCH,
        "sbom-input-path": Kind.TEXT,
        "sbom-output-path": Kind.TEXT,
    },
}
