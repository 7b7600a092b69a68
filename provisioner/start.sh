#!/bin/sh
# What metadata starts on a VM of Compute Engine, by cloud-init (user-data) and by the guest agent (startup-script), at
# every boot; the first one does it. `start.sh` makes a unit of itself that waits for cloud-init; as that unit,
# `start.sh run` finds the cidata, on a disk or at the URLs in the metadata, and starts its bootstrap.sh.
# Needs a POSIX shell, mount and python3.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
run=/run/goldsmith # memory: gone after a reboot
cidata=$run/cidata
port=/dev/ttyS2 # serial port 3
patience=300    # seconds for the network, or the disk, to come up
longest_pause=8 # seconds between two tries
linger=240      # seconds for the host, which looks at a silent machine after two minutes, once a minute
unit=goldsmith-build.service

say() {
    printf 'goldsmith: %s\n' "$1" >/dev/console
}

# The host has to see why: without the job no report can be signed, so the report port gets the plain line as well.
# Compute Engine promises it of machines that run alone, so there the host gets time to read it.
give_up() {
    say "$1"
    [ ! -c "$port" ] || printf '\ngoldsmith: %s\n' "$1" >"$port"
    sync
    [ "$(cat /sys/class/dmi/id/product_name 2>/dev/null)" != "Google Compute Engine" ] || sleep "$linger"
    systemctl poweroff -ff || poweroff -f || echo o >/proc/sysrq-trigger
    exit 1
}

# Fetch what the metadata names: the small files into memory, the context to the disk, where a reboot leaves it. The
# folder has its name only when all is there. Ends with 0, or says what is missing and ends with 1.
fetch() {
    python3 -I -S -E - "$cidata" /var/lib/goldsmith/download <<'END' 2>"$run/fetch.log"
import hashlib, http.client, io, os, shutil, sys, tarfile, urllib.error, urllib.parse, urllib.request

METADATA = "http://169.254.169.254/computeMetadata/v1/instance/attributes/"


def opened(url, **headers):
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30)


def attribute(name):
    try:
        with opened(METADATA + name, **{"Metadata-Flavor": "Google"}) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return ""
        raise


def fetch(cidata, kept):
    url = attribute("goldsmith-cidata")
    if not url:
        sys.exit("there is neither a disk labelled cidata nor the metadata attribute goldsmith-cidata")
    os.umask(0o077)
    folder = cidata + ".new"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with opened(url) as answer, tarfile.open(fileobj=io.BytesIO(answer.read())) as archive:
        for member in archive:
            with open(os.path.join(folder, os.path.basename(member.name)), "wb") as file:
                shutil.copyfileobj(archive.extractfile(member), file)
    url = attribute("goldsmith-context")
    if url:
        os.symlink(fetch_context(url, kept), os.path.join(folder, "context.tar"))
    shutil.rmtree(cidata, ignore_errors=True)
    os.rename(folder, cidata)


def fetch_context(url, kept):
    """The object's name tells whether what lies there is this context: the image may have another one's."""
    path = os.path.join(kept, hashlib.sha256(urllib.parse.urlsplit(url).path.encode()).hexdigest() + ".tar")
    if not os.path.exists(path):
        shutil.rmtree(kept, ignore_errors=True)
        os.makedirs(kept)
        with opened(url) as answer, open(path + ".new", "wb") as file:
            shutil.copyfileobj(answer, file, 1 << 20)
            if file.tell() != int(answer.headers.get("Content-Length", -1)):
                sys.exit("the context was cut off on its way")
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".new", path)
    return path


try:
    fetch(*sys.argv[1:])
except (OSError, ValueError, http.client.HTTPException, tarfile.TarError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
END
}

find_cidata() {
    mkdir -p "$cidata"
    waited=0
    pause=1
    until [ -e "$cidata/job.json" ] || mount -o ro LABEL=cidata "$cidata" 2>"$run/mount.log" || fetch; do
        [ "$waited" -lt "$patience" ] || give_up "no files to build with after $patience s: $(tail -n 1 "$run/fetch.log")"
        sleep "$pause"
        waited=$((waited + pause))
        pause=$((pause * 2 < longest_pause ? pause * 2 : longest_pause))
    done
}

# Not within cloud-init or the guest agent: both wait for what they start, and steps may wait for both.
start_unit() {
    [ "$0" = "$run/start.sh" ] || cp "$0" "$run/start.sh"
    mkdir -p /run/systemd/system
    cat >"/run/systemd/system/$unit" <<END
[Unit]
Description=Goldsmith: build this image
After=cloud-final.service network-online.target
[Service]
Type=exec
ExecStart=/bin/sh $run/start.sh run
StandardOutput=null
StandardError=journal+console
KillMode=mixed
TasksMax=infinity
END
    systemctl daemon-reload
    systemctl start --no-block "$unit"
}

mkdir -p "$run"
if [ "${1:-}" != run ]; then
    set -C # whoever makes this file first goes on
    true 2>|/dev/null >"$run/starting" || exit 0
    set +C
    if [ -d /run/systemd/system ]; then
        start_unit
        exit
    fi
fi
command -v python3 >/dev/null || give_up "this image has no python3; the provisioner needs 3.9 or later: add it to the image"
find_cidata
exec /bin/sh "$cidata/bootstrap.sh"
