# SPDX-License-Identifier: Apache-2.0
"""The standard guest of the benchmarks: real files in its page cache, and memory written sparsely."""

import os
import subprocess

from .cluster import guest_spec
from .net import BUILD, ROOT

FILES_MIB = 200
SPARSE_MIB = 256
MB = 1e6


def files_image():
    """Path of the disk image with this machine's files; made at the first use."""
    path = os.path.join(BUILD, "guest/files.img")
    subprocess.run([os.path.join(ROOT, "tests/guest/pack-files.py"), path, str(FILES_MIB)], check=True)
    return path


def standard_guest(name="bench1", memory_mib=1024, dirty_mb=4.0, hot_mib=0, fill=0):
    """${dirty_mb}: 10^6 bytes dirtied per second, in ${hot_mib} of the sparsely written memory (0: all of it)."""
    spec = guest_spec(name, memory_mib=memory_mib, ws=SPARSE_MIB, rate=f"{dirty_mb * MB / (1 << 20):.3f}", pattern="sparse", fill=fill)
    spec["cmdline"] += f" nc.hot={hot_mib}"
    # Read-only, and the same file at both ends: nothing of it is moved but what the guest has cached.
    spec["disks"] = [{"name": "files", "path": files_image(), "format": "raw", "cache": "writeback", "readonly": True, "shared": True}]
    return spec


def describe(spec):
    words = dict(word.split("=", 1) for word in spec["cmdline"].split() if word.startswith("nc."))
    hot = f" (all in {words['nc.hot']} MiB)" if words.get("nc.hot", "0") != "0" else ""
    fill = f", {words['nc.fill']} MiB of text" if words["nc.fill"] != "0" else ""
    return (f"guest {spec['memory_mib']} MiB: {FILES_MIB} MiB of files cached, {words['nc.ws']} MiB written sparsely{fill}; "
            f"{float(words['nc.rate']) * (1 << 20) / MB:.0f} MB/s dirtied{hot}")
