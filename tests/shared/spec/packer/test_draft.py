"""Each option comes to keys of a spec, is refused with what to do instead, or is left out with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from docs.generate_packer import PAGE, with_tables
from shared.spec.packer.options import BUILDERS, OTHER_PROVISIONERS, POST_PROCESSORS, PROVISIONERS
from tests.shared.spec.packer.templates import (
    SECRET,
    drafts_of,
    hcl,
    notes_of,
    problems_of,
    template_of,
    told,
    values_of,
)

STEP: dict[str, Any] = {"action": "run-script", "reads": ()}


def steps_of(rest: str, before: str = "") -> Any:
    return values_of("", rest, before)["steps"]


def test_a_source_and_its_image() -> None:
    assert values_of(
        """
        image_name = "web-v1"
        image_family = "web"
        image_description = "the web"
        image_labels = { team = "infra", built = "b${timestamp()}" }
        image_licenses = ["projects/x/global/licenses/y"]
        image_guest_os_features = ["GVNIC"]
        image_storage_locations = ["eu"]
        image_project_id = "images-project"
        image_encryption_key { kmsKeyName = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/4" }
        machine_type = "n2-standard-2"
        disk_size = "15"
        disk_type = "pd-ssd"
        network = "net"
        subnetwork = "sub"
        network_project_id = "host-project"
        omit_external_ip = true
        service_account_email = "b@my-project.iam.gserviceaccount.com"
        accelerator_type = "projects/p/zones/z/acceleratorTypes/nvidia-tesla-t4"
        accelerator_count = 1
        preemptible = true
        enable_secure_boot = true
        startup_script_file = "setup.sh"
        """
    ) == {
        "name": "web",
        "description": "the web",
        "source": {"project": "debian-cloud", "family": "debian-12"},
        "context": ".",
        "steps": ({"name": "startup-script", **STEP, "inputs": {"script": "setup.sh"}},),
        "output": {
            "project": "images-project",
            "name": "web-v1",
            "family": "web",
            "labels": {"team": "infra"},
            "licenses": ("projects/x/global/licenses/y",),
            "guest_os_features": ("GVNIC",),
            "storage_locations": ("eu",),
            "disk_size_gb": 15,
            "kms_key": "projects/p/locations/l/keyRings/r/cryptoKeys/k",
        },
        "build": {
            "project": "my-project",
            "zones": ("us-central1-a",),
            "machine_type": "n2-standard-2",
            "disk_type": "pd-ssd",
            "network": "projects/host-project/global/networks/net",
            "subnet": "projects/host-project/regions/us-central1/subnetworks/sub",
            "service_account": "b@my-project.iam.gserviceaccount.com",
            "gpu_type": "nvidia-tesla-t4",
            "spot": True,
            "secure_boot": True,
            "external_ip": False,
        },
    }


@pytest.mark.parametrize(
    ("options", "source"),
    [
        ('source_image = "cos-117-x"', {"project": "cos-cloud", "image": "cos-117-x"}),
        ('source_image_project_id = ["a-project"]', {"project": "a-project", "family": "debian-12"}),
        ('source_image_project_id = "a-project"', {"project": "a-project", "family": "debian-12"}),
        ('source_image = "golden-3"', {"project": "my-project", "image": "golden-3"}),
    ],
)
def test_where_the_source_is(options: str, source: Any) -> None:
    assert values_of(options)["source"] == source


def test_a_disk_image_of_qemu() -> None:
    text = """
    source "qemu" "disk" {
      disk_image = true
      iso_url = "motd"
      iso_checksum = "none"
      disk_size = "5000M"
      format = "qcow2"
      disk_compression = true
      vm_name = "Box.qcow2"
      output_directory = "out"
      memory = 2048
      cpus = 4
      efi_boot = true
      headless = true
    }
    build { sources = ["source.qemu.disk"] }
    """
    template = template_of(text)
    (draft,) = drafts_of(template)
    assert (problems_of(template), draft.named) == ([], ["motd"])
    assert draft.document.data == {
        "name": "disk",
        "source": {"file": "motd"},
        "context": ".",
        "steps": (),
        "output": {
            "name": "box",
            "disk_size_gb": 5,
            "formats": ("qcow2-compressed",),
            "export": {"to": "out/Box.tar.gz"},
        },
        "local": {"cpus": 4, "memory_mb": 2048, "boot": "firmware"},
    }
    assert [text for _, text in draft.notes] == [
        "disk_size: becomes 5 GB, the next whole size",
        "headless: not taken over: Goldsmith chooses how the VM runs",
    ]


@pytest.mark.parametrize(
    ("url", "what"),
    [
        (
            'iso_url = "https://e.org/d.img?x"\niso_checksum = "md5:12"',
            "curl -fLo d.img https://e.org/d.img?x && echo '12  d.img' | md5sum -c",
        ),
        ('iso_url = "no.img"', "'no.img' is not there; name the folder in which packer is run by --source"),
        ('iso_url = "x.iso"\ndisk_image = false', "is an installer, and nothing installs from one here"),
    ],
)
def test_a_disk_image_has_to_be_here(url: str, what: str) -> None:
    options = url if "disk_image" in url else f"{url}\ndisk_image = true"
    found = problems_of(template_of(f'source "qemu" "x" {{\n{options}\n}}\nbuild {{ sources = ["qemu.x"] }}'))
    assert len(found) == 1
    assert what in found[0]


def test_what_a_step_leaves_in_tmp_is_there_for_those_after_it() -> None:
    rest = """
    provisioner "file" {
      source = "motd"
      destination = "/tmp/"
    }
    provisioner "shell" { inline = ["mv /tmp/motd /etc/motd"] }
    provisioner "shell" {
      inline = ["echo restarting", "sudo reboot"]
      expect_disconnect = true
    }
    provisioner "shell" { script = "setup.sh" }
    """
    found = steps_of(rest)
    assert [(step["name"], step.get("cache", True)) for step in found] == [
        ("copy-motd", True),
        ("inline-1", False),
        ("reboot", True),
        ("setup", True),
    ]
    assert found[2] == {"name": "reboot", "action": "reboot", "reads": ()}


@pytest.mark.parametrize(
    ("options", "inputs"),
    [
        ('source = "motd"\ndestination = "/etc/motd"', {"source": "motd", "destination": "/etc/motd"}),
        ('source = "motd"\ndestination = "/etc"', {"source": "motd", "destination": "/etc/motd"}),
        ('source = "site"\ndestination = "/srv"', {"source": "site", "destination": "/srv/site"}),
        ('source = "site/"\ndestination = "/srv/"', {"source": "site/", "destination": "/srv"}),
        ('sources = ["motd"]\ndestination = "/srv/x"', {"source": "motd", "destination": "/srv/x/motd"}),
        (
            'content = "a"\ndestination = "/etc/a"',
            {"source": "made/a", "destination": "/etc/a", "mode": "0644"},
        ),
    ],
)
def test_files_go_where_scp_puts_them(options: str, inputs: Any) -> None:
    (step,) = steps_of(f'provisioner "file" {{\n{options}\n}}')
    assert step["inputs"] == inputs


def test_sensitive_variables_become_secrets() -> None:
    rest = 'provisioner "shell" {\n  environment_vars = ["TOKEN=${var.token}"]\n  script = "setup.sh"\n}'
    (step,) = steps_of(rest, SECRET)
    assert step == {
        "name": "setup",
        **STEP,
        "inputs": {"script": "setup.sh"},
        "secrets": {"TOKEN": "env:PKR_VAR_token"},
    }


DATA = """data "googlecompute-secretsmanager" "key" {
  project_id = "my-project"
  name = "licence"
}
"""


def test_secrets_of_secret_manager_stay_there() -> None:
    entry = "data.googlecompute-secretsmanager.key.payload"
    rest = f'provisioner "shell" {{\n  environment_vars = ["KEY=${{{entry}}}"]\n  script = "setup.sh"\n}}'
    (step,) = steps_of(rest, DATA)
    assert step["secrets"] == {"KEY": "projects/my-project/secrets/licence/versions/latest"}
    assert told(f"image_family = {entry}", "", DATA) == [
        "image_family: is sensitive: variables of a step's environment_vars can have it, and nothing else in a spec"
    ]


@pytest.mark.parametrize(
    ("options", "rest", "what"),
    [
        (
            "",
            'provisioner "shell" {\n environment_vars = ["A=x${var.token}"]\n inline = ["x"]\n}',
            "A has a sensitive value in it; give the sensitive variable alone",
        ),
        (
            "",
            'provisioner "shell" { inline = ["x ${var.token}"] }',
            "inline: is sensitive: variables of a step's environment_vars can have it",
        ),
        ('image_family = "x${timestamp()}"', "", "image_family: is another text each time"),
        ('communicator = "winrm"', "", "communicator: cannot be 'winrm'"),
        ('zone = "us-b"', "", "zone: is written twice, first on line 4"),
        ("disk_sizee = 1", "", "disk_sizee: is no option of 'googlecompute'; did you mean disk_size?"),
        ('metadata = { a = "b" }', "", "metadata: cannot have a: steps get what they need as inputs"),
        ("disk_attachment { volume_size = 3 }", "", "disk_attachment: cannot be kept"),
        ("", 'provisioner "powershell" { inline = ["x"] }', "Goldsmith makes no Windows images"),
        ("", 'provisioner "shel" {}', 'provisioner "shel": is no provisioner here; did you mean shell?'),
        ("", 'provisioner "shell" {}', "runs nothing; write inline, script or scripts"),
        ("", 'provisioner "shell" {\n script = "boot.sh"\n expect_disconnect = true\n}', "end that with exit 194"),
        ("", 'provisioner "shell" {\n script = "no.sh"\n}', "'no.sh' is not there"),
        ("", 'provisioner "file" {\n source = "motd"\n destination = "x"\n}', "is in a home that is not there"),
        ("", 'provisioner "shell-local" {\n inline = ["scp x ${build.Host}:"]\n}', "runs on the machine that builds"),
        ("", 'provisioner "shell" {\n only = 3\n}', "only: needs a list of names"),
        ("image_family = var.token", "", "where it is no secret, take `sensitive` away from token"),
        ("metadata = { user-data = 1 }", "", "cannot have user-data"),
        ("", 'dynamic "provisioner" {}', "needs one name, for_each and content"),
        ("image_name = var.nope", "", "no variable 'nope' is declared; write one of: token"),
        ("image_name = data.x.y", "", "data sources are not asked here"),
    ],
)
def test_what_cannot_be_kept_is_told(options: str, rest: str, what: str) -> None:
    found = told(options, rest, SECRET)
    assert len([line for line in found if what in line]) == 1, found


def test_a_source_of_windows_is_refused() -> None:
    text = hcl().replace('"debian-12"', '"windows-2022"')
    assert "Goldsmith makes no Windows images; keep Packer" in problems_of(template_of(text))[0]


def test_metadata_for_ssh_has_no_effect() -> None:
    assert notes_of('metadata = { enable-oslogin = "FALSE" }') == [
        "metadata: not taken over: enable-oslogin: of no use to steps"
    ]


def test_provisioners_of_one_source() -> None:
    rest = """
    provisioner "shell" {
      only = ["googlecompute.other"]
      inline = ["a"]
    }
    provisioner "shell" {
      except = ["web"]
      inline = ["b"]
    }
    provisioner "shell" {
      inline = ["c"]
      override = { web = { inline = ["d ${source.name}"] } }
    }
    """
    (draft,) = drafts_of(template_of(hcl("", rest)))
    assert draft.made == {"inline-1.sh": "#!/bin/sh -e\nd web\n"}


@pytest.mark.parametrize(
    ("rest", "note"),
    [
        ('provisioner "shell-local" {\n command = "tar cf x y"\n}', "it runs on the machine that builds"),
        ('provisioner "goss" {\n tests = ["x"]\n}', "write the checks as steps of verify"),
        ('provisioner "file" {\n source = "/x"\n destination = "y"\n direction = "download"\n}', "it fetches a file"),
    ],
)
def test_provisioners_that_leave_the_image_as_it_is(rest: str, note: str) -> None:
    assert [text for text in notes_of("", rest) if note in text]
    assert steps_of(rest) == ()


def test_what_is_not_taken_over_is_not_worked_out() -> None:
    options = 'ssh_password = var.nothing\n qemuargs = [["{{ .HTTPIP }}"]]\n headless = local.none'
    text = f'source "qemu" "x" {{\n disk_image = true\n iso_url = "motd"\n {options}\n}}\n'
    template = template_of(text + 'build {\n name = "x-${timestamp()}"\n sources = ["qemu.x"]\n}\n')
    (draft,) = drafts_of(template)
    assert (problems_of(template), draft.full_name) == ([], "qemu.x")
    assert len(draft.notes) == 3


def test_blocks_that_dynamic_ones_make() -> None:
    rest = """
    dynamic "provisioner" {
      for_each = { b = "two", a = "one" }
      iterator = each
      labels   = ["shell"]
      content {
        inline           = ["echo ${each.key} ${source.name}"]
        environment_vars = ["V=${each.value}"]
      }
    }
    dynamic "provisioner" {
      for_each = []
      labels   = ["powershell"]
      content {}
    }
    """
    assert [step["inputs"]["env"] for step in steps_of(rest)] == [{"V": "two"}, {"V": "one"}]
    endless = 'dynamic "provisioner" {\n for_each = range(600)\n labels = ["shell"]\n content {}\n}'
    assert told("", endless) == ["build: makes more than 500 blocks; split the template"]


@pytest.mark.parametrize(
    ("image", "source"),
    [
        ("debian-base", {"project": "my-project", "image": "debian-base"}),
        ("rhel-9-2-sap-ha", {"project": "rhel-sap-cloud", "image": "rhel-9-2-sap-ha"}),
        ("projects/x-y/global/images/z", {"project": "x-y", "image": "z"}),
        ("projects/x-y/global/images/family/z", {"project": "x-y", "family": "z"}),
    ],
)
def test_images_by_their_paths_and_by_their_names(image: str, source: Any) -> None:
    assert values_of(f'source_image = "{image}"')["source"] == source


def test_what_differs_each_time_in_names_of_files() -> None:
    options = (
        'disk_image = true\n iso_url = "motd"\n vm_name = "x-${timestamp()}"\n output_directory = "b-${timestamp()}"'
    )
    template = template_of(f'source "qemu" "x" {{\n {options}\n}}\nbuild {{ sources = ["qemu.x"] }}\n')
    (draft,) = drafts_of(template)
    assert problems_of(template) == []
    assert "name" not in draft.document.data["output"]
    assert draft.document.data["output"]["export"] == {"to": "output-x/image.tar.gz"}
    assert [text for _, text in draft.notes] == [
        "vm_name: not taken over: it is another text each time",
        "output_directory: not taken over: it is another text each time",
    ]


def test_several_sources_are_several_specs() -> None:
    more = """
    source "qemu" "web" {
      disk_image = true
      iso_url = "motd"
    }
    build {
      name = "all"
      source "qemu.web" { memory = 512 }
    }
    """
    first, second = drafts_of(template_of(hcl("", "", more)))
    assert (first.document.data["name"], second.document.data["name"]) == ("googlecompute-web", "all-qemu-web")
    assert second.document.data["local"] == {"memory_mb": 512}
    assert second.full_name == "all.qemu.web"


@pytest.mark.parametrize(
    ("post", "note", "to"),
    [
        (
            'post-processor "googlecompute-export" {\n paths = ["gs://b/x.tar.gz"]\n keep_input_artifact = true\n}',
            None,
            "gs://b/x.tar.gz",
        ),
        (
            'post-processor "googlecompute-export" { paths = ["gs://b/x.tar.gz"] }',
            "the image stays as well",
            "gs://b/x.tar.gz",
        ),
        ('post-processor "googlecompute-export" { paths = ["gs://a/x", "gs://b/x"] }', "not taken over", None),
        ('post-processors {\n post-processor "manifest" {}\n}', "goldsmith builds show --json BUILD", None),
        ('post-processor "unknown" {}', "it comes after the image", None),
    ],
)
def test_post_processors(post: str, note: str | None, to: str | None) -> None:
    assert values_of("", post)["output"].get("export") == (None if to is None else {"to": to})
    assert [text for text in notes_of("", post) if "post-processor" in text and (note or "") in text] == (
        notes_of("", post) if note else []
    )


@pytest.mark.parametrize("kind", BUILDERS)
def test_options_of_builders_are_taken_told_or_refused(kind: str) -> None:
    """Nothing but what the table says is taken is passed over in silence."""
    for name, placement in BUILDERS[kind].items():
        text = f'source "{kind}" "x" {{\n{name} = true\n}}\nbuild {{ sources = ["{kind}.x"] }}'
        template = template_of(text)
        (draft,) = drafts_of(template)
        problems = [each.text for each in draft.document.problems if each.shown == name]
        notes = [note for _, note in draft.notes if note.startswith(f"{name}: not taken over: ")]
        if placement.verdict == "refused":
            assert (problems, notes) == ([f"cannot be kept: {placement.text}"], [])
        elif placement.verdict == "left":
            assert (problems, notes) == ([], [f"{name}: not taken over: {placement.text}"])
        else:
            assert not any("cannot be kept" in each or "is no option" in each for each in problems)
            assert not any("it has no effect here" in note for note in notes)


@pytest.mark.parametrize("kind", PROVISIONERS)
def test_options_of_provisioners_are_taken_told_or_refused(kind: str) -> None:
    for name, placement in PROVISIONERS[kind].items():
        value = '["x"]' if name in ("only", "except") else "true"
        found = template_of(hcl("", f'provisioner "{kind}" {{\n{name} = {value}\n}}'))
        if name == "only":
            continue
        (draft,) = drafts_of(found)
        problems = [each.text for each in draft.document.problems if each.shown == name]
        notes = [note for _, note in draft.notes if note.startswith(f"{name}: not taken over: ")]
        if placement.verdict == "refused":
            assert (problems, notes) == ([f"cannot be kept: {placement.text}"], [])
        elif placement.verdict == "left":
            assert (problems, notes) == ([], [f"{name}: not taken over: {placement.text}"])
        else:
            assert not any("cannot be kept" in each or "is no option" in each for each in problems)


def test_the_page_shows_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run: python -m docs.generate_packer"
    assert all(f"`{kind}`" in text for kind in (*OTHER_PROVISIONERS, *POST_PROCESSORS))
