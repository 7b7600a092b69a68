"""The new image is booted before it joins its family; older images of the family are retired.

Sandboxes make the images, so that what is verified is all that boots.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.system.command import Document, Goldsmith
from tests.system.sandboxes import sandboxed

pytestmark = pytest.mark.vm


def release(goldsmith: Goldsmith, number: int, verify: Document | None = None) -> Path:
    """A spec of family releases; two images of it stay, one beside the newest."""
    steps = [{"name": "one", "script": f"echo {number} > /var/lib/release\n"}]
    output = {"name": f"release-{number}", "family": "releases", "deprecate_old": {"keep": 1, "ttl": "30d"}}
    more = {} if verify is None else {"verify": verify}
    return sandboxed(goldsmith, steps, name=f"release-{number}", output=output, **more)


def test_a_verified_image_retires_older_ones(goldsmith: Goldsmith) -> None:
    for number in (1, 2):
        done, _ = goldsmith.build(release(goldsmith, number))
        assert done.status == 0, done.text
    machines = [{"name": "small", "boot_seconds": 3000}, {"name": "large", "memory_mb": 1280, "cpus": 1}]
    done, build = goldsmith.build(release(goldsmith, 3, {"boot_seconds": 3600, "disk_gb": 3, "machines": machines}))
    assert done.status == 0, done.text
    assert [(each["name"], each["passed"]) for each in build["verifiers"]] == [("small", True), ("large", True)]
    identities = [set(each["identity"]) for each in build["verifiers"]]
    assert identities[0], "each has told of its machine-id"
    assert not identities[0] & identities[1]
    for verifier in build["verifiers"]:
        assert_checked(verifier["steps"])
    logs = {path.name for path in (goldsmith.home / "builds" / build["id"] / "logs").iterdir()}
    assert {f"gs-{build['id']}-a1-verify{number}.log" for number in (1, 2)} <= logs
    assert "verifying" in {document.get("state") for document in done.documents()}
    found = {image["name"]: (image["family"], image["deprecated"]) for image in goldsmith.images()}
    assert found == {
        "release-3": ("releases", None),
        "release-2": ("releases", None),
        "release-1": ("releases", "DEPRECATED"),
    }
    goldsmith.traces.assert_none()


def assert_checked(table: list[Document]) -> None:
    """The built-in checks were all that was to be done, and have seen what there is to see."""
    [checks] = table
    assert (checks["name"], checks["status"]) == ("built-in checks", "done")
    seen, _, unseen = checks["note"].partition("; not checked: ")
    assert re.fullmatch(
        r"[a-z-]+\.target after [0-9.]+ s; network is up; clock is right; files take [0-9]+ of [0-9]+ MiB; "
        "machine-id made at this boot; nothing is left of the build",
        seen,
    ), checks["note"]
    assert unseen.startswith("boot loader (the VM was booted directly"), checks["note"]


def test_an_image_that_fails_verification_waits_for_a_retry_that_verifies_it_again(goldsmith: Goldsmith) -> None:
    """The verifying VM sees the new image, not the source; what it finds wrong keeps the image out of the family."""
    check = {"name": "check", "action": "run-script", "inputs": {"script": "check.sh"}}
    spec = release(goldsmith, 1, {"steps": [check]})
    (spec.parent / "context" / "check.sh").write_text("echo found $(cat /var/lib/release)\nexit 3\n")
    done, build = goldsmith.build(spec, "--output", goldsmith.output)
    assert (done.status, build["outcome"]) == (1, "failed"), done.text
    assert build["reason"].startswith(
        "step 'check' failed: exit status 3; image release-1 is in no family, and is kept"
    )
    assert build["verify_steps"][1]["output"].strip() == "found 1"
    assert [entry["kind"] for entry in build["ledger"]] == ["image"]
    assert [(image["name"], image["family"]) for image in goldsmith.images()] == [("release-1", None)]
    assert list(goldsmith.output.iterdir()) == []
    late = goldsmith.run("builds", "retry", build["id"], "--from", "publish")
    assert (late.status, "failed at verify" in late.err) == (2, True), late.text
    again = goldsmith.run("builds", "retry", build["id"], "--from", "verify")
    assert again.status == 1, again.text
    [retry] = [each for each in goldsmith.builds() if each["retry_of"] == build["id"]]
    assert retry["reason"].startswith("step 'check' failed: exit status 3; image release-1 is in no family")
    assert [step["status"] for step in retry["verify_steps"]] == ["done", "failed"], "it was looked at anew"
    assert [(image["name"], image["family"]) for image in goldsmith.images()] == [("release-1", None)]
    assert list(goldsmith.output.iterdir()) == []
    goldsmith.traces.wait_for_no_process()
    assert goldsmith.run("sweep").status == 0
    assert goldsmith.traces.files() == [f"builds/{retry['id']}/context.tar"]  # for the VM of the next retry


def test_an_image_that_comes_up_in_emergency_mode_fails_verification(goldsmith: Goldsmith) -> None:
    """A disk of its fstab is missing. The provisioner runs there all the same, and says what systemd said."""
    missing = (
        "echo 'UUID=0f5a3bb2-1111-2222-3333-444444444444 /data ext4 x-systemd.device-timeout=2s 0 2' >>/etc/fstab\n"
    )
    steps = [{"name": "mount", "script": "mkdir /data\n" + missing}]
    done, build = goldsmith.build(sandboxed(goldsmith, steps, verify={"steps": []}), "--retry-for", "0s")
    assert (done.status, build["outcome"]) == (1, "failed"), done.text
    assert build["reason"].startswith(
        "the system has not come up: it is in emergency mode (emergency.target); Timed out waiting"
    )
    assert "Dependency failed for data.mount - /data" in build["reason"]
    assert goldsmith.images() == []


def test_a_unit_that_fails_fails_verification_unless_it_is_listed(goldsmith: Goldsmith) -> None:
    unit = "[Service]\\nExecStart=/bin/false\\n[Install]\\nWantedBy=multi-user.target\\n"
    script = f"printf '{unit}' >/etc/systemd/system/app.service\nsystemctl enable app\n"
    steps = [{"name": "unit", "script": script}]
    kept = sandboxed(goldsmith, steps, name="refused", output={"family": "apps"}, verify={"keep_failed": True})
    done, build = goldsmith.build(kept)
    assert (done.status, build["outcome"]) == (1, "failed"), done.text
    assert build["reason"].startswith("failed units: app.service; app.service: Main process exited")
    mend, _, told = build["reason"].partition("; image ")
    assert mend.endswith("; mend them, or name them in verify.allow_failed")
    [image] = goldsmith.images()
    assert told.startswith(f"{image['name']} has not passed its verification and is in no family, and is kept until 20")
    assert (image["family"], image["labels"]["goldsmith-verify"]) == (None, "failed")
    verify = {"steps": [], "allow_failed": ["app.service"]}
    done, build = goldsmith.build(sandboxed(goldsmith, steps, name="allowed", verify=verify))
    assert (done.status, build["outcome"]) == (0, "succeeded"), done.text
