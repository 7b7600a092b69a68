#!/bin/sh
# Start the provisioner, once per boot, whoever comes first: cloud-init, a guest agent or the direct boot's unit.
# Needs a POSIX shell, mount and python3; finds all else on the disk labelled cidata.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
run=/run/goldsmith # memory: gone after a reboot
cidata=$run/cidata
patience=60 # seconds for the disk to appear

say() {
    printf 'goldsmith: %s\n' "$1" >/dev/console
}

# The host has to see why: without python3 no report can be signed, so the report port gets the plain line as well.
give_up() {
    say "$1"
    port=$(sed -n 's/.*"report_port": *"\([^"]*\)".*/\1/p' "$cidata/job.json" 2>/dev/null)
    if [ -c "${port:-/dev/ttyS2}" ]; then
        printf '\ngoldsmith: %s\n' "$1" >"${port:-/dev/ttyS2}"
    fi
    sync
    sleep "$(sed -n 's/.*"linger": *\([0-9]*\).*/0\1/p' "$cidata/job.json" 2>/dev/null)" 2>/dev/null
    systemctl poweroff -ff || poweroff -f || echo o >/proc/sysrq-trigger
    exit 1
}

mount_cidata() {
    [ -d "$cidata" ] || mkdir -p "$cidata"
    waited=0
    until [ -e "$cidata/job.json" ] || mount -o ro LABEL=cidata "$cidata" 2>"$run/mount.log"; do
        [ "$waited" -lt "$patience" ] || give_up "no disk labelled cidata after $patience s: $(cat "$run/mount.log")"
        waited=$((waited + 1))
        sleep 1
    done
}

[ -d "$run" ] || mkdir -p "$run"
set -C # whoever makes this file first goes on; the shell does it itself, since starting programs takes long here
true 2>|/dev/null >"$run/started" || exit 0
set +C
mount_cidata
command -v python3 >/dev/null || give_up "this image has no python3; the provisioner needs 3.9 or later: add it to the image"
# Not `python3 provisioner.pyz`: running an archive by name imports runpy, which takes 0.1 s on an emulated CPU.
python3 -I -S -E -c '
import sys
if sys.version_info < (3, 9):
    sys.exit(3)
sys.path.insert(0, sys.argv.pop(1))
from provisioner.__main__ import main
sys.exit(main(sys.argv[1:]))
' "$cidata/provisioner.pyz" --cidata "$cidata" "$@"
status=$?
[ "$status" -ne 3 ] || give_up "this image's $(python3 --version 2>&1) is too old; the provisioner needs 3.9 or later"
give_up "the provisioner ended unexpectedly with status $status"
