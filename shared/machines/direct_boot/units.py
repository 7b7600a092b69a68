"""The units of the image's systemd that a direct boot holds back, and how.

Nothing of this is in the image. MASKED units are masked on the kernel's command line: systemd's own chores, which no
step asks for. DEFERRED units wait until the job begins, by a condition below /run. Steps can start, enable and disable
them as usual (a mask would make `systemctl enable ssh` fail). A service's socket is deferred with it; otherwise the
socket would start the service in vain until systemd marks the socket as failed. GENERATORS are replaced by /dev/null,
so that the units that they generate do not exist.
"""

from __future__ import annotations

from collections.abc import Mapping

from .initramfs import CpioMember

BOOTED = "/run/goldsmith/booted"  # made by guest/start

MASKED = (
    # the state of one machine, which does not belong into an image
    "systemd-random-seed.service",
    "systemd-machine-id-commit.service",
    "systemd-firstboot.service",
    "systemd-journal-flush.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-hwdb-update.service",
    "systemd-sysusers.service",
    "systemd-pstore.service",
    "systemd-repart.service",
    # the initrd has done this already
    "kmod-static-nodes.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-remount-fs.service",
    # there are no logins, and no passwords to ask for
    "getty.target",
    "serial-getty@{console}.service",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    # mounts and sockets that start a program or load a module, which is loaded on its first use anyway
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "sys-fs-fuse-connections.mount",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "modprobe@drm.service",
    "systemd-fsckd.socket",
    "systemd-journald-audit.socket",
    "systemd-initctl.socket",
    "systemd-rfkill.socket",
    "systemd-pcrphase.service",
    "systemd-pcrphase-sysinit.service",
)

DEFERRED = (
    # the initrd has set the network up already
    "NetworkManager.service",
    "NetworkManager-wait-online.service",
    "networking.service",
    "systemd-network-generator.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-networkd-wait-online.service",
    "systemd-resolved-monitor.socket",
    "systemd-resolved-varlink.socket",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "wicked.service",
    # services and timers that a build does not need, and that would change the image during it
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "chrony.service",
    "chronyd.service",
    "cron.service",
    "crond.service",
    "dnf-makecache.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "google-guest-agent.service",
    "google-osconfig-agent.service",
    "google-shutdown-scripts.service",
    "google-startup-scripts.service",
    "logrotate.timer",
    "man-db.timer",
    "motd-news.timer",
    "rsyslog.service",
    "snapd.seeded.service",
    "snapd.service",
    "snapd.socket",
    "ssh-host-keys.service",
    "ssh.service",
    "ssh.socket",
    "sshd.service",
    "syslog-ng.service",
    "syslog.socket",
    "systemd-binfmt.service",
    "systemd-growfs-root.service",  # the provisioner lets the root grow
    "systemd-growfs@.service",
    "systemd-logind.service",
    "systemd-tmpfiles-clean.timer",
    "unattended-upgrades.service",
)

GENERATORS = (
    "cloud-init-generator",
    "systemd-bless-boot-generator",
    "systemd-cryptsetup-generator",
    "systemd-getty-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-integritysetup-generator",
    "systemd-rc-local-generator",
    "systemd-run-generator",
    "systemd-system-update-generator",
    "systemd-veritysetup-generator",
)


# The kernel makes all device nodes. udev has to add the other names of disks and partitions, and the modes of control
# devices. Terminals, processors and buses would take it a second of an emulated CPU.
COLDPLUG = """\
[Service]
ExecStart=
ExecStart=-udevadm trigger --type=all --action=add --subsystem-match=block --subsystem-match=net --subsystem-match=misc
"""


def kernel_parameters(console: str) -> tuple[str, ...]:
    """Return the parameters of the kernel's command line. `console` is the first serial port's name."""
    return ("cloud-init=disabled", *(f"systemd.mask={unit.format(console=console)}" for unit in MASKED))


def unit_overlay() -> Mapping[str, CpioMember]:
    """Return the files below /run (path relative to it -> member)."""
    condition = CpioMember.file(f"[Unit]\nConditionPathExists={BOOTED}\n".encode())
    return {
        **{f"systemd/system/{unit}.d/50-goldsmith.conf": condition for unit in DEFERRED},
        **{f"systemd/system-generators/{name}": CpioMember.link("/dev/null") for name in GENERATORS},
        "systemd/system/systemd-udev-trigger.service.d/50-goldsmith.conf": CpioMember.file(COLDPLUG.encode()),
        # its socket starts it at the first connection
        "systemd/system/multi-user.target.wants/dbus.service": CpioMember.link("/dev/null"),
    }
