#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what building, testing and the demo need on Debian 12. Idempotent:
# says what it installs, and does nothing when everything is there.
set -eu

packages="
gcc libc6-dev meson ninja-build pkg-config
libglib2.0-dev libjansson-dev libsqlite3-dev libssl-dev libmicrohttpd-dev
liblz4-dev libzstd-dev libxxhash-dev libseccomp-dev libsystemd-dev libcurl4-openssl-dev libpq-dev
qemu-system-x86 qemu-utils seabios ipxe-qemu
busybox-static cpio kmod iproute2 iputils-ping procps zstd xz-utils
python3 python3-pytest python3-yaml python3-jsonschema openssl
"
# For `make test`, `make sanitize`, `make fuzz`, `make coverage`, `make model` and `make soak` only. (Of PostgreSQL and Prometheus the tests use
# the programs, with data of their own; what Debian's packages start is left alone.)
extra="clang llvm libclang-rt-14-dev gcovr spin libfaketime python3-pytest-xdist postgresql-15 prometheus chromium chromium-driver"

# The dashboard is bundled where node and npm are, whoever they come from: Debian's npm does not go with another's node.
command -v npm >/dev/null || extra="$extra nodejs npm"

case "${1:-}" in
  --all) packages="$packages $extra" ;;
  "") ;;
  *) echo "usage: $0 [--all]" >&2; exit 2 ;;
esac

missing=""
for p in $packages; do
  case "$(dpkg-query -W -f='${Status}' "$p" 2>/dev/null || true)" in
    *"ok installed") ;;
    *) missing="$missing $p" ;;
  esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
  echo "setup: packages are missing and only root can install them; as root: apt-get install$missing" >&2
  exit 1
fi
echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086
if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
  tail -n 5 "$log" >&2
  echo "setup: these packages can't be installed (no network?):$missing" >&2
  exit 1
fi
