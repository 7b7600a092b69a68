#!/bin/sh
# Install the packages of Debian or Ubuntu that Goldsmith needs and this machine lacks.
#
#     setup/apt-packages.sh [--missing] base|development|cloud|peers ...
#
# With --missing it prints the names of what it would install, and installs nothing.
# The script checks for programs and files, not for dpkg's records: a machine that has them all needs neither root nor
# network. It runs apt-get only when something is missing, with sudo when it does not run as root.
set -eu
PATH=$PATH:/usr/sbin:/sbin # where mke2fs and sfdisk are, and a user's PATH on Debian is not
python=${PYTHON:-python3}

# Each line: package, the evidence that it is installed (program, absolute path or python:MODULE), and `optional` when
# some distributions lack it.
base() {
	cat <<-END
		ca-certificates /etc/ssl/certs/ca-certificates.crt
		python3 python3
		qemu-system-x86 qemu-system-x86_64
		qemu-system-arm qemu-system-aarch64
		qemu-efi-aarch64 /usr/share/AAVMF/AAVMF_CODE.fd
		qemu-user-static qemu-aarch64-static
		qemu-system-data /usr/share/qemu/qboot.rom
		qemu-utils qemu-img
		seabios /usr/share/seabios/bios-256k.bin
		ovmf /usr/share/OVMF/OVMF_CODE_4M.fd
		mmdebstrap mmdebstrap
		debian-archive-keyring /usr/share/keyrings/debian-archive-keyring.gpg
		uidmap newuidmap
		genisoimage isoinfo
		mtools mcopy
		dosfstools mkfs.vfat
		fdisk sfdisk
		e2fsprogs mke2fs
		xfsprogs mkfs.xfs
		btrfs-progs mkfs.btrfs
		lvm2 pvck
		cryptsetup-bin veritysetup
		cgpt cgpt
		cpio cpio
		rsync rsync
		busybox-static /usr/share/doc/busybox-static
		socat socat
		slirp4netns slirp4netns
		lz4 lz4
		zstd zstd
		squashfs-tools unsquashfs
		squashfs-tools-ng tar2sqfs
		grub-common grub-mkimage
		grub-pc-bin /usr/lib/grub/i386-pc/boot.img
		grub-efi-amd64-bin /usr/lib/grub/x86_64-efi/normal.mod
	END
}

# What the set-up of a checkout, its checks and its tests need besides.
development() {
	cat <<-END
		python3-venv python:ensurepip
		shellcheck shellcheck
		chromium chromium optional
		eatmydata eatmydata
		rpm rpmbuild
		zsh zsh optional
		fish fish optional
	END
}

# Requirements of Google's emulators, which come with the Google Cloud SDK; no distribution has that.
cloud() {
	cat <<-END
		default-jre-headless java
	END
}

# Programs that the benchmarks compare Goldsmith with.
peers() {
	cat <<-END
		guestfs-tools virt-customize
		pigz pigz
		isal igzip
		mkosi mkosi optional
		debootstrap debootstrap
		systemd-container systemd-nspawn
		python3-networkx /usr/lib/python3/dist-packages/networkx
		python3-pbr /usr/lib/python3/dist-packages/pbr
		python3-stevedore /usr/lib/python3/dist-packages/stevedore
		python3-yaml /usr/lib/python3/dist-packages/yaml
		packer packer optional
	END
}

say() { printf 'setup: %s\n' "$*" >&2; }

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		say "root is needed for: $*"
		say "there is no sudo here; run this as root: apt-get install$missing"
		return 1
	fi
}

apt_get() {
	as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
		apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null
}

is_there() {
	case $1 in
	/*) [ -e "$1" ] ;;
	python:*) "$python" -c "import ${1#python:}" 2>/dev/null ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

# Set $missing and $missing_optional from the lines on standard input.
look() {
	while read -r package proof optional; do
		if is_there "$proof"; then
			continue
		elif [ "$optional" = optional ]; then
			missing_optional="$missing_optional $package"
		else
			missing="$missing $package"
		fi
	done
}

install_missing() {
	apt_get update || apt_get update || [ -z "$missing" ] # optional packages must not require the network
	for package in $missing_optional; do
		if apt-cache --quiet=0 policy "$package" 2>/dev/null | grep -q 'Candidate: [^(]'; then
			missing="$missing $package"
		else
			say "$package is not in this distribution, and is left out"
		fi
	done
	[ -n "$missing" ] || return 0
	# shellcheck disable=SC2086 # a list of words
	apt_get install --yes --no-install-recommends $missing ||
		{ apt_get update && apt_get install --yes --no-install-recommends $missing; }
}

print_only=''
if [ "${1:-}" = --missing ]; then
	print_only=yes
	shift
fi
[ $# -gt 0 ] || set -- base
missing=''
missing_optional=''
for list in "$@"; do
	case $list in
	base | development | cloud | peers) ;;
	*) say "there is no list $list; there are base, development, cloud and peers" && exit 2 ;;
	esac
	lines=$("$list")
	look <<-END
		$lines
	END
done

if [ -n "$print_only" ]; then
	# shellcheck disable=SC2086 # lists of words
	[ -z "$missing$missing_optional" ] || printf '%s\n' $missing $missing_optional
	exit 0
fi
[ -n "$missing$missing_optional" ] || exit 0
if ! command -v apt-get >/dev/null; then
	say "this is neither Debian nor Ubuntu, so install these (their names on Debian) by hand:$missing$missing_optional"
	[ -z "$missing" ] && exit 0 || exit 1
fi
say "installing:$missing$missing_optional"
install_missing
