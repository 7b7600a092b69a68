"""What becomes of each option of Packer's builders, provisioners and post-processors: one table.

docs/packer.md shows it, and a test holds the two equal. An option that is not here is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["taken", "left", "refused"]


@dataclass(frozen=True)
class OptionPlacement:
    """What becomes of an option. The text is a key of the spec, the reason why it has no meaning, or the remedy."""

    verdict: Verdict
    text: str


def _placed(verdict: Verdict, options: Mapping[str, str]) -> Iterator[tuple[str, OptionPlacement]]:
    for names, text in options.items():
        for name in names.split():
            yield name, OptionPlacement(verdict, text)


def _table(taken: Mapping[str, str], left: Mapping[str, str], refused: Mapping[str, str]) -> dict[str, OptionPlacement]:
    return dict([*_placed("taken", taken), *_placed("left", left), *_placed("refused", refused)])


_SSH = "steps run on the machine itself, without ssh"
_NO_WINDOWS = "Goldsmith makes no Windows images; keep Packer for this one"
_WHO_ASKS = "goldsmith submit goes by gcloud's own login, and the deployment by its service accounts"
_UPLOAD = "scripts are on the machine from the beginning"

_COMMUNICATOR = _table(
    {"communicator": "ssh and none; winrm is refused"},
    {
        "pause_before_connecting ssh_host ssh_port ssh_username ssh_password ssh_keypair_name ssh_ciphers "
        "temporary_key_pair_name temporary_key_pair_type temporary_key_pair_bits ssh_clear_authorized_keys "
        "ssh_key_exchange_algorithms ssh_private_key_file ssh_certificate_file ssh_pty ssh_timeout ssh_wait_timeout "
        "ssh_agent_auth ssh_disable_agent_forwarding ssh_handshake_attempts ssh_bastion_host ssh_bastion_port "
        "ssh_bastion_agent_auth ssh_bastion_username ssh_bastion_password ssh_bastion_interactive "
        "ssh_bastion_private_key_file ssh_bastion_certificate_file ssh_file_transfer_method ssh_proxy_host "
        "ssh_proxy_port ssh_proxy_username ssh_proxy_password ssh_keep_alive_interval ssh_read_write_timeout "
        "ssh_public_key ssh_private_key": _SSH,
    },
    {
        "ssh_remote_tunnels ssh_local_tunnels": "steps reach what the network of the VM reaches, and nothing by ssh; "
        "let it reach that, and leave the tunnels out",
        "winrm_username winrm_password winrm_host winrm_no_proxy winrm_port winrm_timeout winrm_use_ssl "
        "winrm_insecure winrm_use_ntlm": _NO_WINDOWS,
    },
)

_GOOGLECOMPUTE = _table(
    {
        "project_id": "build.project, output.project",
        "image_project_id": "output.project",
        "source_image": "source.image",
        "source_image_family": "source.family",
        "source_image_project_id": "source.project, the first of the list; else by the name, as Packer knows them",
        "zone": "build.zones",
        "machine_type": "build.machine_type",
        "disk_size": "output.disk_size_gb, else 20 as in Packer",
        "disk_type": "build.disk_type",
        "network": "build.network",
        "subnetwork": "build.subnet, with region or zone",
        "network_project_id": "the project of build.network and build.subnet",
        "region": "the region of build.subnet",
        "omit_external_ip": "build.external_ip",
        "service_account_email": "build.service_account",
        "accelerator_type": "build.gpu_type",
        "accelerator_count": "1; others are refused",
        "preemptible": "build.spot",
        "enable_secure_boot": "build.secure_boot",
        "image_name": "output.name, unless it is another one each time",
        "image_family": "output.family",
        "image_description": "description",
        "image_labels": "output.labels",
        "image_licenses": "output.licenses",
        "image_guest_os_features": "output.guest_os_features",
        "image_storage_locations": "output.storage_locations",
        "image_encryption_key": "output.kms_key; rawKey is refused",
        "disk_encryption_key": "output.kms_key, if it is the image's key as well",
        "image_architecture": "source.arch is the source's own; checked",
        "startup_script_file": "a first step, run-script",
        "metadata": "startup-script: a first step, run-script; what is about ssh, OS Login and the serial port has no "
        "effect, other keys are refused",
    },
    {
        "account_file credentials_file credentials_json access_token impersonate_service_account quota_project "
        "vault_gcp_oauth_engine": _WHO_ASKS,
        "instance_name disk_name labels": "names and labels of what a build makes are Goldsmith's",
        "address": "the VM gets an address of its own, if any",
        "use_internal_ip use_os_login wait_to_add_ssh_keys use_iap iap_localhost_port iap_hashbang iap_ext "
        "iap_tunnel_launch_wait": _SSH,
        "tags": "the deployment sets the VM's network tags",
        "scopes": "what the VM may do is what its service account may do",
        "disable_default_service_account": "the default is an account that can only publish reports",
        "enable_vtpm enable_integrity_monitoring": "build.secure_boot has both",
        "on_host_maintenance": "a VM that is stopped goes on where it was",
        "state_timeout": "build.timeout limits the whole build",
        "wrap_startup_script": "the script is a step, and its exit status counts",
        "min_cpu_platform": "it has no effect on the image",
        "windows_password_timeout": _SSH,
        "node_affinity reservation_affinity": "VMs go where Compute Engine puts them",
    },
    {
        "disk_attachment": "a build VM has one disk; make an image of each disk from a spec of its own",
        "enable_nested_virtualization": "build VMs have none; do that work outside of the build",
        "metadata_files": "steps get what they need as inputs; write env of a step, or files of the context",
        "skip_create_image": "a build makes an image; check a spec with goldsmith plan, and an image with verify",
        "custom_endpoints network_ip": "the deployment says how Compute Engine is reached; leave it out",
        "universe_domain": "the deployment says how Compute Engine is reached; leave it out",
        "deprecate_at obsolete_at delete_at": "that begins with the next image here; write output.deprecate_old",
        "max_run_duration_in_seconds instance_termination_action": "write build.timeout into the spec",
    },
)

_QEMU = _table(
    {
        "disk_image": "must be true: source.file is a disk",
        "iso_url": "source.file; a URL has to be fetched before",
        "iso_urls": "source.file, the first of the list",
        "iso_checksum": "the command that fetches a URL checks it",
        "disk_size": "output.disk_size_gb",
        "skip_resize_disk": "without output.disk_size_gb",
        "format": "output.formats, with output.export",
        "disk_compression": "qcow2-compressed",
        "vm_name": "name",
        "output_directory": "output.export.to",
        "cpus": "local.cpus",
        "memory": "local.memory_mb",
        "efi_boot": "local.boot: firmware",
        "firmware": "local.boot: firmware",
    },
    {
        "accelerator qemu_binary machine_type cpu_model sockets cores threads display use_default_display headless "
        "use_pflash vtpm tpm_device_type efi_firmware_code efi_firmware_vars efi_drop_efivars": "Goldsmith chooses how "
        "the VM runs",
        "disk_interface disk_cache disk_discard disk_detect_zeroes cdrom_interface net_device io_uring": "Goldsmith "
        "chooses the VM's devices",
        "vnc_bind_address vnc_use_password vnc_password vnc_port_min vnc_port_max disable_vnc qmp_enable "
        "qmp_socket_path": "there is no screen; goldsmith builds console shows what the VM prints",
        "host_port_min host_port_max skip_nat_mapping ssh_host_port_min ssh_host_port_max": _SSH,
        "iso_target_path iso_target_extension iso_skip_cache": "images are kept in Goldsmith's catalogue",
        "boot_command boot_wait boot_key_interval boot_keygroup_interval boot_steps": "nothing is typed on a screen; "
        "what it sets up on a disk image has to become a step",
        "shutdown_command shutdown_timeout": "the machine is shut down when its steps are done",
        "http_directory http_content http_port_min http_port_max http_bind_address http_interface "
        "http_network_protocol cd_files cd_content cd_label floppy_files floppy_content floppy_dirs floppy_label": "it "
        "lets Packer in; what else it sets up has to become a step",
        "qemuargs": "Goldsmith chooses how the VM runs; memory and cpus are options of their own",
        "qemu_img_args skip_compaction": "Goldsmith writes the files itself",
        "use_backing_file": "files stand alone; the source is not copied while it is read",
    },
    {
        "disk_additional_size": "an image has one disk; make an image of each from a spec of its own",
        "net_bridge": "the VM reaches other hosts by Goldsmith's own network; leave it out",
        "run_once": "it belongs to an installer; begin with a disk image",
    },
)

_PROVISIONER = _table(
    {
        "only": "the step is in the specs of those sources",
        "except": "the step is in the specs of the other sources",
        "override": "the options of that source",
        "timeout": "steps[].timeout",
        "max_retries": "steps[].retries, 10 at most",
    },
    {"pause_before pause_after": "a step begins when the machine is ready for it"},
    {},
)

_SHELL = _table(
    {
        "script": "run-script.script",
        "scripts": "one step each",
        "inline": "a script in the spec's folder NAME.files",
        "inline_shebang": "the first line of that script, else /bin/sh -e",
        "environment_vars": "run-script.env; of sensitive variables, secrets",
        "env": "run-script.env; of sensitive variables, secrets",
        "execute_command": "run-script.interpreter; steps are root, with or without sudo",
        "expect_disconnect": "with commands that only reboot: a step reboot",
    },
    {
        "env_var_format use_env_var_file remote_path remote_folder remote_file skip_clean": _UPLOAD,
        "binary": "scripts with Windows' line ends are refused",
        "start_retry_timeout": _SSH,
    },
    {"valid_exit_codes": "a step succeeds with 0 alone; let the script end with 0"},
)

_FILE = _table(
    {
        "source": "copy-files.source",
        "sources": "one step each",
        "content": "copy-files.source, a file in the spec's folder NAME.files",
        "destination": "copy-files.destination",
        "direction": "upload; download is left out, and told",
    },
    {"generated": "files are looked for when the spec is checked"},
    {},
)

_ANSIBLE_BOTH = {
    "playbook_file": "ansible.playbook",
    "extra_arguments": "ansible.extra_vars, tags and skip_tags; -v has no effect, others are refused",
    "galaxy_file": "ansible.requirements",
}

_ANSIBLE_LOCAL = _table(
    {
        **_ANSIBLE_BOTH,
        "playbook_files": "one step each",
        "inventory_groups": "ansible.groups",
        "playbook_dir": "the playbook is where it is; its folder comes along",
        "role_paths": "ansible.roles, the folders that they are in",
        "group_vars host_vars": "must be beside the playbook, as group_vars and host_vars",
        "playbook_paths": "the playbook is where it is",
        "command": "ansible-playbook, with or without sudo, and variables as in ansible_env_vars; others are refused",
    },
    {
        "staging_directory clean_staging_directory": "playbooks run where they are in the context",
        "galaxy_command galaxy_force_install galaxy_roles_path galaxy_collections_path": "requirements are installed "
        "for the step, and removed after it",
    },
    {
        "inventory_file": "the machine is the only host; write inventory_groups",
        "collection_paths": "write the collections into a galaxy_file",
    },
)

_ANSIBLE = _table(
    {
        **_ANSIBLE_BOTH,
        "groups": "ansible.groups",
        "host_alias": "ansible.groups, where a play is for it, or for default",
        "roles_path": "ansible.roles",
        "ansible_env_vars": "ansible.roles for ANSIBLE_ROLES_PATH; what is about ssh or output has no effect, others "
        "are refused",
    },
    {
        "user ansible_ssh_extra_args local_port ssh_host_key_file ssh_authorized_key_file ansible_proxy_key_type "
        "sftp_command use_sftp use_proxy skip_version_check keep_inventory_file inventory_directory "
        "empty_groups": "the playbook runs on the machine itself, as root",
        "galaxy_command galaxy_force_install galaxy_force_with_deps": "requirements are installed for the step, and "
        "removed after it",
    },
    {
        "command": "the step runs ansible-playbook; leave it out, or run your own program by a shell provisioner",
        "inventory_file inventory_file_template": "the machine is the only host; write groups",
        "collections_path": "write the collections into a galaxy_file",
    },
)

BUILDERS: Mapping[str, Mapping[str, OptionPlacement]] = {
    "googlecompute": {**_GOOGLECOMPUTE, **_COMMUNICATOR},
    "qemu": {**_QEMU, **_COMMUNICATOR},
}
PROVISIONERS: Mapping[str, Mapping[str, OptionPlacement]] = {
    "shell": {**_PROVISIONER, **_SHELL},
    "file": {**_PROVISIONER, **_FILE},
    "ansible-local": {**_PROVISIONER, **_ANSIBLE_LOCAL},
    "ansible": {**_PROVISIONER, **_ANSIBLE},
    "breakpoint": {
        **_PROVISIONER,
        **_table({}, {"disable note": "goldsmith build --on-failure shell stops there"}, {}),
    },
}
"""Options of the builders and provisioners that are taken over; a breakpoint is left out whole."""

_ON_A_HOST = "run it by what starts goldsmith, before or after that"

_AS_SCRIPT = OptionPlacement("refused", "write what it does as a script, and name that in a shell provisioner")
_WINDOWS = OptionPlacement("refused", _NO_WINDOWS)
_CHECKS = OptionPlacement(
    "left", "write the checks as steps of verify, which run on a VM that has booted from the image"
)
_PUPPET = OptionPlacement("refused", "install and run puppet in a script, and name that in a shell provisioner")

OTHER_PROVISIONERS: Mapping[str, OptionPlacement] = {
    "shell-local": OptionPlacement("left", "it runs on the machine that builds; " + _ON_A_HOST),
    "powershell": _WINDOWS,
    "windows-shell": _WINDOWS,
    "windows-restart": _WINDOWS,
    "windows-update": _WINDOWS,
    "chef-client": _AS_SCRIPT,
    "chef-solo": _AS_SCRIPT,
    "converge": _AS_SCRIPT,
    "puppet-masterless": _PUPPET,
    "puppet-server": _PUPPET,
    "salt-masterless": OptionPlacement(
        "refused", "install and run salt-call in a script, and name that in a shell provisioner"
    ),
    "inspec": _CHECKS,
    "goss": _CHECKS,
}
"""Provisioners that are left out whole, or refused with the remedy. A shell-local that reaches the VM is refused."""

POST_PROCESSORS: Mapping[str, OptionPlacement] = {
    "googlecompute-export": OptionPlacement(
        "taken", "output.export.to, for one path; other options are left out, and told"
    ),
    "manifest": OptionPlacement("left", "goldsmith builds show --json BUILD has the image's name and more"),
    "checksum": OptionPlacement("left", "NAME.sha256 is beside each file in any case"),
    "compress": OptionPlacement("left", "output.formats says what the files are; gce is compressed"),
    "artifice": OptionPlacement("left", "the image itself is what a build makes"),
    "shell-local": OptionPlacement("left", "it runs on the machine that builds; " + _ON_A_HOST),
    "googlecompute-import": OptionPlacement("left", "goldsmith submit makes the image on Google Cloud itself"),
    "vagrant": OptionPlacement("left", "make the box from the file in output.formats: vagrant package"),
    "docker-import": OptionPlacement("left", "output.formats: [oci] makes an archive for docker load"),
    "docker-tag": OptionPlacement("left", "output.formats: [oci] makes an archive for docker load"),
    "docker-push": OptionPlacement("left", "output.formats: [oci] makes an archive for docker load"),
}
"""What becomes of post-processors; others are left out, too, since they come after the image."""

OTHER_POST_PROCESSOR = "it comes after the image: " + _ON_A_HOST
