# SPDX-License-Identifier: Apache-2.0
"""What tests of checkpoints share: a machine with a disk that is written as its guest would, checkpoints made and restored, and what is left."""

import hashlib
import os
import subprocess

from . import guest as watch
from .cluster import Refused, guest_spec
from .net import wait_for

MIB = 1 << 20
DISK_MIB = 64


def observer_of(node, vm):
    return watch.QmpObserver(os.path.join(node.machine_dir(vm), "observer.sock"))


def guest_write(node, vm, pattern, offset_mib, length_mib):
    """As the guest's device writes: through whatever is between it and its image."""
    qmp = observer_of(node, vm)
    try:
        for what in (f"write -P {pattern} {offset_mib}M {length_mib}M", "flush"):
            line = f'qemu-io -d /machine/peripheral/dev-root/virtio-backend "{what}"'
            answer = qmp.command("human-monitor-command", **{"command-line": line})
            assert "rror" not in answer, answer
    finally:
        qmp.close()


def disk_sha256(path):
    """Of what the guest sees, whatever format the image has."""
    out = subprocess.run(["qemu-img", "convert", "-U", "-f", path.rsplit(".", 1)[1], "-O", "raw", path, path + ".flat"], stderr=subprocess.PIPE,
                         text=True)
    assert out.returncode == 0, out.stderr
    digest = hashlib.sha256(open(path + ".flat", "rb").read()).hexdigest()
    os.unlink(path + ".flat")
    return digest


def make_disk(cluster, vm, form="qcow2"):
    path = os.path.join(cluster.bed.dir, f"{vm}.{form}")
    subprocess.run(["qemu-img", "create", "-q", "-f", form, path, f"{DISK_MIB}M"], check=True)
    return path


def boot(cluster, vm, node=None, disk="qcow2", **more):
    spec = guest_spec(vm, memory_mib=160, ws=24, rate=5, nic=False, **more)
    path = None
    if disk:
        path = make_disk(cluster, vm, disk)
        spec["disks"] = [{"name": "root", "path": path, "format": disk, "cache": "writeback"}]
    cluster.boot(node or cluster.a, spec)
    return path


def settle(node, id, timeout=90):
    """The checkpoint when nothing is under way with it any more."""
    def ended():
        cp = node.call("checkpoint.get", id=id)
        busy = cp["state"] == "making" or (cp["activity"] or {}).get("state") == "running"
        return None if busy else cp
    return wait_for(ended, timeout, f"checkpoint {id}")


def create(node, vm, **args):
    cp = settle(node, node.call("checkpoint.create", name=vm, **args)["id"])
    assert cp["state"] == "ready", cp["error"]
    return cp


def restore(node, id, **args):
    node.call("checkpoint.restore", id=id, **args)
    return settle(node, id)["activity"]


def refused(node, op, **args):
    """The error it is refused with."""
    try:
        done = node.call(op, **args)
    except Refused as error:
        return error
    raise AssertionError(f"{op} was not refused: {done}")


def console(node, vm):
    return os.path.join(node.machine_dir(vm), "console.log")


def use_store(cluster, node, name, budget_mib=0):
    """A store of its own: what is done to it is done to no other test's."""
    node.stop()
    node.settings.update(store_dir=os.path.join(cluster.bed.dir, name), store_budget_mib=str(budget_mib))
    node.write_config()
    node.start()
    return node.settings["store_dir"]


def guest_is_well(node, vm, after=0):
    """The guest has checked its memory since ${after} bytes of its console and found no error."""
    def checked():
        text = open(console(node, vm), errors="replace").read()[after:]
        return text.count("NCLOAD errors=") >= 2
    wait_for(checked, 30, f"{vm} to check itself")
    errors, panic = watch.console_errors(console(node, vm))
    assert errors == 0 and panic is None


def console_length(node, vm):
    path = console(node, vm)
    return len(open(path, errors="replace").read()) if os.path.exists(path) else 0


def nothing_of_ours_is_left(node, vm):
    qmp = observer_of(node, vm)
    try:
        nodes = [n["node-name"] for n in qmp.command("query-named-block-nodes")]
        assert not [n for n in nodes if n.startswith("nc-cp-")], nodes
        assert qmp.command("query-block-exports") == []
        assert qmp.command("query-fdsets") == []
        on = [c["capability"] for c in qmp.command("query-migrate-capabilities") if c["state"]]
        assert "background-snapshot" not in on
        return qmp.is_running()
    finally:
        qmp.close()


def forget(node, vm):
    """The tests that follow have the processors."""
    if node.state(vm) is not None:
        node.call("machine.stop", name=vm, force=True)
        node.call("machine.destroy", name=vm)
