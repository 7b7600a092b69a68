#!/bin/sh
# Start the provisioner, once per boot: cloud-init, a guest agent or the direct boot's unit runs this.
# Needs a POSIX shell, mount and Python 3.6 or later; everything else is on the disk labelled cidata.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
run=/run/goldsmith # memory: gone after a reboot
cidata=$run/cidata
patience=60 # seconds for the disk to appear
# Enterprise Linux 8 has its own Python outside of PATH; elsewhere python3 may be missing or too old.
pythons="python3 /usr/libexec/platform-python python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python3.7
    python3.6"
needed="the provisioner needs Python 3.6 or later: add python3 to the image"

say() {
    printf 'goldsmith: %s\n' "$1" >/dev/console
}

power=yes # no: the caller sees the status
case " $* " in *" --no-power "*) power=no ;; esac

# The host has to see the reason: without Python no report can be signed, so the report port gets the plain line.
give_up() {
    say "$1"
    port=$(sed -n 's/.*"report_port": *"\([^"]*\)".*/\1/p' "$cidata/job.json" 2>/dev/null)
    for port in "${port:-/dev/ttyS2}" /dev/ttyAMA2; do # serial port 3, as arm64 names it
        [ ! -c "$port" ] && [ ! -p "$port" ] || ! printf '\ngoldsmith: %s\n' "$1" 2>/dev/null >"$port" || break
    done
    [ "$power" = yes ] || exit 1
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
set -C # only the first caller can make this file; the shell makes it, since starting a program is slow here
true 2>|/dev/null >"$run/started" || exit 0
set +C
mount_cidata
# Not `python3 provisioner.pyz`: running an archive by name imports runpy, which takes 0.1 s on an emulated CPU. No
# Python is tried beforehand, since starting it takes even longer. The locale is for names of files: Python 3.6 does not
# choose UTF-8 by itself.
unfit=
for python in $pythons; do
    command -v "$python" >/dev/null || continue
    LC_ALL=C.UTF-8 "$python" -I -S -E -c '
import sys
if sys.version_info < (3, 6):
    sys.exit(3)
sys.path.insert(0, sys.argv.pop(1))
try:
    from provisioner.__main__ import main
except ImportError:
    sys.exit(4)
sys.exit(main(sys.argv[1:]))
' "$cidata/provisioner.pyz" --cidata "$cidata" "$@"
    status=$?
    case $status in
    3) unfit="$unfit, $python is $("$python" --version 2>&1)" ;;
    4) unfit="$unfit, $python lacks modules of its library" ;;
    126 | 127) unfit="$unfit, $python does not run" ;;
    0 | 1 | 194 | 195)
        [ "$power" = yes ] || exit "$status"
        give_up "the provisioner ended unexpectedly with status $status"
        ;;
    *) give_up "the provisioner ended unexpectedly with status $status" ;;
    esac
done
[ -n "$unfit" ] || give_up "this image has no python3; $needed"
give_up "this image's python3 is of no use (${unfit#, }); $needed"
