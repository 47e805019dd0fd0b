# SPDX-License-Identifier: Apache-2.0
"""What tests of rollbacks share: orders to a novacrond that may die of them, deaths at each step, and the story in the journal."""

from .net import wait_for

NAMES = ["stop-transfer", "fence-destination", "verify-base", "restore-disks", "restore-memory", "restore-devices-and-network",
         "resume-and-verify-alive", "clean-up"]
POINTS = [f"rollback-{step}-{when}" for step in range(1, 9) for when in ("before", "after")]


def order(node, **args):
    """A rollback, of a novacrond that may die of it before it answers."""
    try:
        node.call("migration.rollback", **args)
    except OSError:
        pass


def restart(node, fault=None):
    node.stop()
    node.start(fault=fault)


def steps_of(rollback):
    return [(s["name"], s["state"]) for s in rollback["steps"]]


def last_rollback(node, id):
    return node.call("migration.get", id=id)["rollbacks"][-1]


def wait_rollback(node, id):
    wait_for(lambda: last_rollback(node, id)["state"] != "running", 90, lambda: f"the rollback to end: {last_rollback(node, id)}")
    return last_rollback(node, id)


def story(node, id):
    """The rollback's steps in the transaction log, oldest first."""
    entries = [e for e in node.call("audit.list", about=id, limit=200) if e["kind"].startswith("rollback.")]
    return [(e["kind"], e["detail"].get("step"), e["detail"].get("state")) for e in reversed(entries)]


def assert_told(node, id, begun=lambda step: 1):
    """Every step was recorded before and after, and once more before for each death in it: so often as ${begun} says."""
    told = story(node, id)
    assert told[0][0] == "rollback.begun" and told[-1] == ("rollback.ended", None, "completed"), told
    for step in range(1, 9):
        states = [state for kind, n, state in told if kind == "rollback.step" and n == step]
        assert states[0] == "begun" and states[-1] in ("done", "nothing-to-do"), told
        assert states.count("begun") == begun(step), (step, told)


def kill_at_every_point(c, vm, node, begin):
    """One rollback, begun by ${begin}, in which ${node}'s novacrond dies (-9) before and after each step; it is left without a fault."""
    for i, point in enumerate(POINTS):
        if i == 0:
            restart(node, f"{point}:kill")
            begin()
        else:
            node.start(fault=f"{point}:kill", wait=False)  # it may die of it before it answers
        node.wait_dead(90)
        died_of = [line for line in node.log_tail(40).splitlines() if "fault point" in line][-1]
        assert f"fault point {point}: kill" in died_of, died_of
        assert len(c.runs_where(vm)) <= 1, point
    node.start()


def assert_told_of_every_death(node, id):
    assert_told(node, id, begun=lambda step: 3)
