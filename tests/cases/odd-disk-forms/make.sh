#!/bin/bash
# Makes disks in odd forms in the current folder.
set -e
truncate -s 64M empty.raw
truncate -s 1G one.raw
printf 'label: gpt\nsize=200M,type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\ntype=L\n' | sfdisk -q one.raw
truncate -s 1500M half.raw
printf 'label: gpt\ntype=L\n' | sfdisk -q half.raw
truncate -s 1G bare.raw
mke2fs -q -t ext4 -F bare.raw
qemu-img convert -O qcow2 one.raw "My.Image_v1.2 (final).img"
qemu-img convert -O vmdk one.raw first.vmdk
qemu-img convert -O vpc one.raw second.vhd
qemu-img convert -O vhdx one.raw third.vhdx
qemu-img convert -O vdi one.raw fourth.vdi
qemu-img create -q -f qcow2 -F raw -b "$PWD/one.raw" backed.qcow2
qemu-img create -q -u -f qcow2 -F raw -b /etc/passwd evil.qcow2 64M
cp one.raw disk.raw
tar --format=gnu -Sczf othername.tar.gz one.raw
tar --format=gnu -Sczf whole.tar.gz disk.raw
head -c 300 whole.tar.gz >truncated.tar.gz
gzip -1 <one.raw >packed.raw.gz
: >zero.raw
