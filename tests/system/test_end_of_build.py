"""How a build ends on its machine: services stop as at a shutdown, and what a step has changed stays changed."""

from __future__ import annotations

import pytest

from tests.system.command import Goldsmith
from tests.system.test_guest_faults import lines_of

pytestmark = pytest.mark.vm

SERVICES = r"""
set -e
cd /etc/systemd/system
mkdir -p /opt/app
echo running >/opt/app/state

# A database, which saves what it holds when it is told to end.
cat >db.service <<'END'
[Service]
ExecStart=/bin/sh -c 'trap "echo term >>/opt/app/saved; exit 0" TERM; while :; do sleep 1; done'
ExecStop=/bin/sh -c 'echo stopped >/opt/app/state'
END

# One without a process.
cat >once.service <<'END'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh -c 'echo once >/opt/app/once'
END

# A program that writes to a log of its own.
cat >app.service <<'END'
[Service]
ExecStart=/bin/sh -c 'while :; do date; sleep 0.2; done'
StandardOutput=append:/var/log/app.log
[Install]
WantedBy=multi-user.target
END

# A log daemon, whose socket is an early unit and starts it again for each message.
cat >logd.socket <<'END'
[Unit]
DefaultDependencies=no
[Socket]
ListenDatagram=/run/systemd/journal/syslog
END
cat >/usr/local/bin/logd <<'END'
#!/usr/bin/python3 -u
import socket
messages = socket.socket(fileno=3)
while True:
    print(messages.recv(4096))
END
chmod +x /usr/local/bin/logd
cat >logd.service <<'END'
[Service]
ExecStart=/usr/local/bin/logd
StandardOutput=append:/var/log/syslog
END
systemctl daemon-reload
systemctl enable --now app
systemctl start logd.socket db once
logger "a message"
sleep 1
systemctl is-active db app logd
test -s /var/log/syslog
"""
CHANGES = r"""
set -e
rm -f /etc/resolv.conf
ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
echo '# none' >/etc/udev/rules.d/70-persistent-net.rules
chattr +i /etc/udev/rules.d/70-persistent-net.rules
"""


def test_services_save_and_logs_are_closed(goldsmith: Goldsmith) -> None:
    spec = goldsmith.spec([{"name": "services", "script": SERVICES}, {"name": "changes", "script": CHANGES}])
    done, build = goldsmith.build(spec)
    assert done.status == 0, done.text
    assert build["image"]["findings"] == []
    assert lines_of(goldsmith, "/opt/app/state") == ["stopped"]
    assert lines_of(goldsmith, "/opt/app/saved") == ["term"]
    assert lines_of(goldsmith, "/opt/app/once") == ["once"]
    assert lines_of(goldsmith, "/var/log/app.log") == lines_of(goldsmith, "/var/log/syslog") == []
    goldsmith.traces.assert_none()
