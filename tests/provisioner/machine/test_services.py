"""The services that are stopped before the machine is cleaned, and how they are found."""

from __future__ import annotations

from pathlib import Path

from provisioner.machine.machine import COS_UNITS
from provisioner.machine.services import chosen, own_unit, started, working


def test_what_is_stopped_is_all_but_the_network_and_ourselves() -> None:
    """Early units are not asked about: they are not ordered after sysinit.target."""
    kept = [
        *("NetworkManager.service", "ifup@ens4.service", "systemd-networkd.socket", "systemd-resolved.service"),
        *("dbus.service", "dbus.socket", "dbus-broker.service", "goldsmith-build.service", "multi-user.target"),
        *("-.mount", "dev-vda1.swap", "session-1.scope", "system.slice", "systemd-journald.service"),
    ]
    ended = [
        *("rsyslog.service", "syslog.socket", "redis-server.service", "postgresql@15-main.service", "user@0.service"),
        *("apt-daily.timer", "cups.path", "docker.socket", "ssh.service", "getty@tty1.service", "dbus-org.x.service"),
    ]
    assert chosen([*kept, *ended], "goldsmith-build.service") == ended


def test_services_are_found_by_their_control_groups(tmp_path: Path) -> None:
    for group in (
        "system.slice/redis-server.service",
        "system.slice/system-postgresql.slice/postgresql@15-main.service/worker.service",
        "system.slice/run-credentials.mount",
        "user.slice/user-0.slice/user@0.service/init.scope",
        "systemd/system.slice/old.service",
    ):
        (tmp_path / group).mkdir(parents=True)
        for folder in (tmp_path / group, *(tmp_path / group).parents):
            (folder / "cgroup.procs").touch()
            if folder == tmp_path:
                break
    names = {"redis-server.service", "postgresql@15-main.service", "user@0.service", "old.service"}
    assert working(str(tmp_path)) == names
    assert working(str(tmp_path / "absent")) == set()


def test_active_units_are_read_from_systemds_links(tmp_path: Path) -> None:
    for name in ("invocation:app.service", "invocation:backup.timer", "log-level-max:app.service"):
        (tmp_path / name).symlink_to("0123")
    assert started(str(tmp_path)) == {"app.service", "backup.timer"}
    assert started(str(tmp_path / "absent")) == set()


def test_the_unit_that_we_are_in_is_found(tmp_path: Path) -> None:
    (tmp_path / "v2").write_text("0::/system.slice/goldsmith-build.service/goldsmith-step-9\n")
    (tmp_path / "v1").write_text("9:pids:/\n1:name=systemd:/system.slice/goldsmith.service\n")
    (tmp_path / "none").write_text("0::/\n")
    found = [own_unit(str(tmp_path / name)) for name in ("v2", "v1", "none")]
    assert found == ["goldsmith-build.service", "goldsmith.service", ""]


def test_container_optimized_os_stops_what_the_original_does() -> None:
    """Clean-up of machine state: stops crash-reporter, crash-sender, ..., random-seed, journald and its sockets."""
    stopped = "crash-reporter crash-sender device_policy_manager metrics-daemon update-engine systemd-random-seed"
    assert COS_UNITS[:6] == tuple(f"{name}.service" for name in stopped.split())
    assert [unit for unit in COS_UNITS if "journald" in unit][-1] == "systemd-journald.service"
