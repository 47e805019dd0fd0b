# SPDX-License-Identifier: Apache-2.0
"""Bundles src/dashboard and turns it into C arrays, so that the gate serves it without opening a file.

make_dashboard.py [--node NODE --npm NPM] [--required] SOURCE WORK OUTPUT.c

Without node and npm, or where npm gets no packages (no network), the gate has one page that says so; with --required that is an error.
"""
import argparse
import hashlib
import os
import shutil
import subprocess
import sys

TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}


def read(path):
    with open(path, "rb") as f:
        return f.read()


def run(command, cwd):
    out = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if out.returncode != 0:
        raise RuntimeError("%s failed:\n%s" % (" ".join(command), out.stdout.strip()[-2000:]))


def install(work, npm):
    """What the lock file says, checked against its digests, running no script of a package; once per lock file."""
    lock, mark = read(os.path.join(work, "package-lock.json")), os.path.join(work, "node_modules", ".novacron-lock")
    if not os.path.exists(mark) or read(mark) != lock:
        run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], work)
        with open(mark, "wb") as f:
            f.write(lock)


def bundle(source, work, node, npm):
    """{path: content}"""
    to = os.path.join(work, "dist")
    os.makedirs(work, exist_ok=True)
    for name in os.listdir(source):
        if os.path.isfile(os.path.join(source, name)):
            shutil.copy(os.path.join(source, name), work)
    shutil.rmtree(to, ignore_errors=True)
    install(work, npm)
    run([node, "build.mjs", to], work)
    files = {"/": read(os.path.join(to, "index.html"))}
    files.update({"/assets/" + name: read(os.path.join(to, "assets", name)) for name in sorted(os.listdir(os.path.join(to, "assets")))})
    return files


def write(files, target):
    lines = ["/* SPDX-License-Identifier: Apache-2.0 */", "/* Generated from src/dashboard. */", '#include "gate/asset.h"', ""]
    rows = []
    for i, (path, data) in enumerate(files.items()):
        lines.append("static const unsigned char nc_asset_%d[] = {" % i)
        lines += ["  " + ",".join(str(b) for b in data[at:at + 24]) + "," for at in range(0, len(data), 24)]
        lines.append("};")
        kind = TYPES[os.path.splitext(path)[1] or ".html"]
        rows.append('  { "%s", "%s", "\\"%s\\"", (const char *)nc_asset_%d, %d },' % (path, kind, hashlib.sha256(data).hexdigest(), i, len(data)))
    lines += ["", "const NcAsset nc_assets[] = {", *rows, "};", "const size_t nc_n_assets = %d;" % len(rows), ""]
    with open(target, "w", encoding="ascii") as f:
        f.write("\n".join(lines))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--node")
    parser.add_argument("--npm")
    parser.add_argument("--required", action="store_true")
    parser.add_argument("source")
    parser.add_argument("work")
    parser.add_argument("target")
    o = parser.parse_args()
    files = {"/": read(os.path.join(o.source, "absent.html"))}
    try:
        if not o.node or not o.npm:
            raise RuntimeError("there is no node and npm for it (not installed, or -Ddashboard=disabled)")
        files = bundle(o.source, os.path.abspath(o.work), o.node, o.npm)
    except (OSError, RuntimeError) as error:
        print("novacron-gate %s the dashboard: %s" % ("can't have" if o.required else "is built without", error), file=sys.stderr)
        if o.required:
            return 1
    write(files, o.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
