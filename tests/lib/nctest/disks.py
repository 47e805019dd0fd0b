# SPDX-License-Identifier: Apache-2.0
"""Disks of the test guest: a directory of the same name with other content on each node, and a look into images from outside."""

import json
import os
import struct
import subprocess

from .net import wait_for

RECORD = 8192
MAGIC = 0x4E43524543303031
MASK = (1 << 64) - 1


def mix(x):
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & MASK
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def record_sum(words):
    total = 0
    for i, word in enumerate(words):
        if i != 2:
            total = (total << 1 | total >> 63) & MASK ^ word
    return total


def make_image(path, size="256M", format="qcow2", *more):
    subprocess.run(["qemu-img", "create", "-q", "-f", format, *more, path, size], check=True)


def in_mounts_of(node, *command):
    subprocess.run(["nsenter", "-t", str(node.process.pid), "-m", *command], check=True)


class LoopDisk:
    """A file system of its own for one node, which can come to harm: ext4 in a file. `with LoopDisk(...) as d`; at the end the node must be stopped."""

    def __init__(self, node, name, size):
        self.node = node
        self.path = os.path.join(node.dir, f"{name}.mounted")
        self.image = os.path.join(node.dir, f"{name}.ext4")
        os.makedirs(self.path)
        subprocess.run(["truncate", "-s", size, self.image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", self.image], check=True)

    def mount(self):
        """From the node's next start on, for as long as it runs."""
        self.node.mounts = [f"mount -o loop,errors=remount-ro {self.image} {self.path}"]

    def device(self):
        """The name of its loop device; empty: it has none now."""
        out = subprocess.run(["losetup", "-n", "-O", "NAME", "-j", self.image], check=True, stdout=subprocess.PIPE, text=True)
        return os.path.basename(out.stdout.strip())

    def find_damage(self):
        """As if the file system had found some: nothing can be written from now on."""
        with open(f"/sys/fs/ext4/{self.device()}/trigger_fs_error", "w", encoding="ascii") as f:
            f.write("1")

    def mend(self):
        """The node is stopped."""
        wait_for(lambda: not self.device(), 30, "the disk to be let go")
        out = subprocess.run(["e2fsck", "-f", "-y", self.image], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert out.returncode in (0, 1), out.stdout

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.node.mounts = []


class LocalDisks:
    """Gives each node of a cluster a file system of its own under the same path."""

    def __init__(self, bed, *nodes, tmpfs=None):
        """${tmpfs}: {node: size} of those whose file system is a small one in memory."""
        self.path = os.path.join(bed.dir, "disks")
        os.makedirs(self.path, exist_ok=True)
        for node in nodes:
            size = (tmpfs or {}).get(node.name)
            if size:
                node.mounts = [f"mount -t tmpfs -o size={size} tmpfs {self.path}"]
            else:
                os.makedirs(self.of(node), exist_ok=True)
                node.mounts = [f"mount --bind {self.of(node)} {self.path}"]
            if node.process:
                node.stop()
                node.start()

    def of(self, node):
        return os.path.join(node.dir, "disks")

    def image(self, node, name="root.img"):
        """Where this test sees what the node has under `self.path`."""
        return os.path.join(self.of(node), name)

    def make(self, node, name="root.img", size="256M", format="qcow2", *more):
        make_image(self.image(node, name), size, format, *more)
        return os.path.join(self.path, name)


def raw_of(image, format):
    """The image's content in a raw file beside it."""
    raw = image + ".raw"
    subprocess.run(["qemu-img", "convert", "-U", "-f", format, "-O", "raw", image, raw], check=True)
    return raw


def check_image(image, format, mib, acknowledged):
    """(lost, torn) among the records of ${mib} MiB in an image that nobody uses; ${acknowledged}: the guest's last record that counts.

    Every one up to that, or a later one in its slot, must be there.
    """
    if format == "qcow2":
        subprocess.run(["qemu-img", "check", "-q", "-f", format, image], check=True)
    slots = mib * (1 << 20) // RECORD
    due = {}
    for number in range(1, acknowledged + 1):
        due[mix(number) % slots] = number
    lost = torn = 0
    with open(raw_of(image, format), "rb") as raw:
        for slot, number in due.items():
            raw.seek(slot * RECORD)
            words = struct.unpack(f"<{RECORD // 8}Q", raw.read(RECORD).ljust(RECORD, b"\0"))
            if words[0] != MAGIC or words[3] != slot or words[2] != record_sum(words):
                torn += 1
            elif words[1] < number:
                lost += 1
    return lost, torn


def info(image):
    out = subprocess.run(["qemu-img", "info", "-U", "--output=json", image], check=True, stdout=subprocess.PIPE)
    return json.loads(out.stdout)
