#!/bin/sh
# Started from the metadata of a VM on Compute Engine at every boot, by cloud-init (user-data) and by the guest agent
# (startup-script); the first of them goes on. `start.sh` makes a unit of itself that waits for cloud-init. As that
# unit, `start.sh run` finds the cidata, on a disk or at the URLs in the metadata, and starts its bootstrap.sh.
# Needs a POSIX shell, mount and Python 3.6 or later.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
run=/run/goldsmith # memory: gone after a reboot
cidata=$run/cidata
ports="/dev/ttyS2 /dev/ttyAMA2" # serial port 3, as x86-64 and as arm64 name it
patience=$run/patience # holds the second after the boot until which the network, or the disk, may come up
longest_pause=8        # seconds between two tries
linger=240      # seconds for the host, which looks at a silent machine after two minutes, once a minute
unit=goldsmith-build.service
pythons="python3 /usr/libexec/platform-python python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python3.7
    python3.6" # as bootstrap.sh has them

say() {
    printf 'goldsmith: %s\n' "$1" >>/dev/console
}

# The kernel also has nodes without a port behind them, which cannot be written to.
report() {
    for port in $ports; do
        [ ! -c "$port" ] || ! printf '\n%s\n' "$1" 2>/dev/null >"$port" || return 0
    done
}

# The host has to see the reason: without the job no report can be signed, so the report port gets the plain line.
# Compute Engine promises the serial output of running machines only, so there the host gets time to read it.
give_up() {
    say "$1"
    report "goldsmith: $1"
    sync
    [ "$(cat /sys/class/dmi/id/product_name 2>/dev/null)" != "Google Compute Engine" ] || sleep "$linger"
    systemctl poweroff -ff || poweroff -f || echo o >/proc/sysrq-trigger
    exit 1
}

find_python() {
    for python in $pythons; do
        ! "$python" -I -S -E -c 'import sys; sys.exit(sys.version_info < (3, 6))' 2>/dev/null || return 0
    done
    give_up "this image has no python3 of 3.6 or later, which the provisioner needs: add it to the image"
}

# Download the archives in the metadata to the disk, where they survive a reboot: a signed URL is valid for 12 hours.
# The small files are unpacked in memory, into a folder that gets its name only when it is complete. Exits with 0, or
# prints what is missing and exits with 1.
fetch() {
    "$python" -I -S -E - "$cidata" /var/lib/goldsmith "$patience" <<'END' 2>"$run/fetch.log"
import hashlib, http.client, os, shutil, signal, sys, tarfile, urllib.error, urllib.parse, urllib.request

METADATA = "http://169.254.169.254/computeMetadata/v1/instance/"
ANSWER = 10.0  # seconds for a host to begin its answer, whatever number of addresses it has
NO_ADDRESS = (
    "the VM has no external address: switch on Private Google Access for its subnetwork (gcloud compute networks subnets "
    "update SUBNETWORK --region=REGION --enable-private-ip-google-access), or write build.external_ip: true"
)
ADDRESS = "the VM has an external address: look at the firewall rules and routes of its network"


def limit(seconds, problem):
    def end(number, frame):
        raise TimeoutError(problem)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def seconds_left(patience):
    with open(patience) as told, open("/proc/uptime") as uptime:
        return max(ANSWER, float(told.read()) - float(uptime.read().split()[0]))


def opened(url, **headers):
    limit(ANSWER, "%s does not answer" % urllib.parse.urlsplit(url).netloc)
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30)


def attribute(name):
    return metadata("attributes/" + name)


def metadata(path):
    try:
        with opened(METADATA + path, **{"Metadata-Flavor": "Google"}) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return ""
        raise


def fetch(cidata, state, patience):
    told = attribute("goldsmith-patience")
    if told.isdigit():
        with open(patience, "w") as file:
            file.write(told)
    url = attribute("goldsmith-cidata")
    if not url:
        sys.exit("there is neither a disk labelled cidata nor the metadata attribute goldsmith-cidata")
    os.umask(0o077)
    folder = cidata + ".new"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with tarfile.open(download(url, os.path.join(state, "files"), patience)) as archive:
        for member in archive:
            with open(os.path.join(folder, os.path.basename(member.name)), "wb") as file:
                shutil.copyfileobj(archive.extractfile(member), file)
    url = attribute("goldsmith-context")
    if url:
        os.symlink(download(url, os.path.join(state, "download"), patience), os.path.join(folder, "context.tar"))
    shutil.rmtree(cidata, ignore_errors=True)
    os.rename(folder, cidata)


def download(url, kept, patience):
    """Download an object once; its name identifies it, since the image may hold the files of another build."""
    path = os.path.join(kept, hashlib.sha256(urllib.parse.urlsplit(url).path.encode()).hexdigest() + ".tar")
    if not os.path.exists(path):
        shutil.rmtree(kept, ignore_errors=True)
        os.makedirs(kept)
        with reached(url) as answer, open(path + ".new", "wb") as file:
            limit(seconds_left(patience), "the files and the context take too long to download")
            shutil.copyfileobj(answer, file, 1 << 20)
            if file.tell() != int(answer.headers.get("Content-Length", -1)):
                sys.exit("an archive was cut off on its way")
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".new", path)
    return path


def reached(url):
    try:
        return opened(url)
    except urllib.error.HTTPError:
        raise
    except OSError as error:
        address = metadata("network-interfaces/0/access-configs/0/external-ip")
        raise OSError("%s; %s" % (error, ADDRESS if address else NO_ADDRESS))


try:
    fetch(*sys.argv[1:])
except (OSError, ValueError, http.client.HTTPException, tarfile.TarError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
END
}

find_cidata() {
    mkdir -p "$cidata"
    pause=1
    echo 300 >"$patience" # until the metadata says how long the build allows a VM to be silent
    until [ -e "$cidata/job.json" ] || mount -o ro LABEL=cidata "$cidata" 2>"$run/mount.log" || fetch; do
        problem=$(tail -n 1 "$run/fetch.log")
        uptime=$(cut -d . -f 1 /proc/uptime)
        [ "$uptime" -lt "$(cat "$patience")" ] || give_up "no files to build with $uptime s after the boot: $problem"
        say "no files to build with yet: $problem"
        report "goldsmith waits: no files to build with yet: $problem"
        sleep "$pause"
        pause=$((pause * 2 < longest_pause ? pause * 2 : longest_pause))
    done
}

# Before milestone 125, Container-Optimized OS may not finish cloud-init while it cannot reach a registry.
may_never_end_cloud_init() {
    [ "$(sed -n 's/^ID="\{0,1\}\([a-z]*\).*/\1/p' /etc/os-release 2>/dev/null)" = cos ] || return 1
    milestone=$(sed -n 's/^VERSION_ID="\{0,1\}\([0-9]*\).*/\1/p' /etc/os-release)
    [ "${milestone:-0}" -lt 125 ]
}

# Not within cloud-init or the guest agent: both wait for the programs that they start, and steps may wait for them.
start_unit() {
    [ "$0" = "$run/start.sh" ] || cp "$0" "$run/start.sh"
    mkdir -p /run/systemd/system
    after="cloud-final.service network-online.target"
    ! may_never_end_cloud_init || after=network-online.target
    cat >"/run/systemd/system/$unit" <<END
[Unit]
Description=Goldsmith: build this image
After=$after
[Service]
Type=exec
ExecStart=/bin/sh $run/start.sh run
StandardOutput=null
StandardError=journal+console
KillMode=mixed
TasksMax=infinity
Delegate=yes
END
    systemctl daemon-reload
    systemctl start --no-block "$unit"
}

mkdir -p "$run"
if [ "${1:-}" != run ]; then
    set -C # only the first caller can make this file
    true 2>|/dev/null >"$run/starting" || exit 0
    set +C
    if [ -d /run/systemd/system ]; then
        start_unit
        exit
    fi
fi
find_python
find_cidata
exec /bin/sh "$cidata/bootstrap.sh"
