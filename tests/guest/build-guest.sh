#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the test guest into OUTDIR: vmlinuz (Debian's cloud kernel, taken from its
# package, not installed) and initrd.img (busybox, network, disk and balloon modules, ncload).
set -eu
[ $# = 1 ] || { echo "usage: $0 OUTDIR" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
die() { echo "build-guest: $*" >&2; exit 1; }
for tool in busybox:busybox-static cpio:cpio gcc:gcc dpkg-deb:dpkg xz:xz-utils; do
  command -v "${tool%:*}" >/dev/null || die "${tool%:*} is missing: apt-get install ${tool#*:}"
done

newest=0
for f in "$here"/*; do [ ! -e "$out/initrd.img" ] || [ ! "$f" -nt "$out/initrd.img" ] || newest=1; done
[ ! -e "$out/initrd.img" ] || [ "$newest" = 1 ] || exit 0

if [ ! -e "$out/cache/kernel.deb" ]; then
  mkdir -p "$out/cache"
  package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: *\(linux-image-[0-9].*\)/\1/p' | head -1)
  [ -n "$package" ] || { apt-get update >/dev/null 2>&1 || true
    package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: *\(linux-image-[0-9].*\)/\1/p' | head -1); }
  [ -n "$package" ] || die "apt does not know linux-image-cloud-amd64 (no network? run apt-get update)"
  (cd "$out/cache" && apt-get download "$package" >/dev/null 2>&1) || die "can't download $package (no network?)"
  mv "$out/cache/$package"_*.deb "$out/cache/kernel.deb"
fi
rm -rf "$out/kernel" "$out/root"
mkdir -p "$out/kernel"
dpkg-deb -x "$out/cache/kernel.deb" "$out/kernel"
cp "$out"/kernel/boot/vmlinuz-* "$out/vmlinuz"

root="$out/root"
mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/modules"
cp "$(command -v busybox)" "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
cp "$here/init" "$root/init"
chmod 755 "$root/init"
gcc -static -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -pthread "$here/ncload.c" -o "$root/ncload" || die "ncload does not build"
# In the order in which they depend on each other.
: >"$root/modules.list"
for m in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net virtio_blk virtio_balloon; do
  file=$(find "$out/kernel/lib/modules" -name "$m.ko*" | head -1)
  [ -n "$file" ] || continue # built into the kernel
  case "$file" in
    *.xz) xz -dc "$file" >"$root/modules/$m.ko" ;;
    *) cp "$file" "$root/modules/$m.ko" ;;
  esac
  echo "$m.ko" >>"$root/modules.list"
done
(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1 >"$out/initrd.new")
mv "$out/initrd.new" "$out/initrd.img"
rm -rf "$out/kernel" "$out/root"
