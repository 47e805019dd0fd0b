# SPDX-License-Identifier: Apache-2.0
"""A gate over a novacrond that only talks, keys for TLS, and raw HTTP."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time

import pytest

from fake_novacrond import FakeNovacrond, Refusal
from nctest.net import BUILD

GATE = os.path.join(BUILD, "src/gate/novacron-gate")
CLI = os.path.join(BUILD, "src/cli/novacron")

MACHINE = {"name": "web1", "state": "running", "pid": 4711, "memory_mib": 2048, "vcpus": 2, "epoch": 3, "right": "held",
           "holder": "host-a", "adopted": False, "migration": None, "spec": {"name": "web1", "vcpus": 2}}
MIGRATION = {
    "id": "m-0t7bd31dsw67hqqr", "vm": "web1", "source": "host-a", "destination": "host-b", "role": "source", "state": "copying",
    "phase": "memory_copy", "outcome": None, "progress": 43, "created": "2026-01-02T03:04:05.678Z",
    "started": "2026-01-02T03:04:05.700Z", "finished": None, "total_ms": None, "pause_ms": None, "qemu_downtime_ms": None,
    "ram_bytes": 1 << 28, "ram_total_bytes": 1 << 29, "ram_remaining_bytes": 1 << 28, "wire_bytes": 1 << 26, "rate_bps": 112300000, "wire_rate_bps": 28075000,
    "ratio": 4.0, "eta_ms": 12000, "rounds": 1, "dirty_rate_bps": 5000000, "expected_downtime_ms": 120, "sha256": None,
    "sha256_equal": None, "max_downtime_ms": 300, "attention": None, "error": None,
    "events": [{"at": "2026-01-02T03:04:05.700Z", "event": "started", "detail": ""}]}
COMPLETED = {**MIGRATION, "state": "done", "phase": "completed", "outcome": "completed", "progress": 100,
             "finished": "2026-01-02T03:04:14.100Z", "total_ms": 8400, "pause_ms": 212, "qemu_downtime_ms": 180, "rounds": 4,
             "sha256": "ab" * 32, "sha256_equal": True, "compression": "auto", "max_cpu": 100, "coding": "zstd:1",
             "coding_switches": 3, "coded_batches": {"lz4": 30, "zstd:1": 90},
             "forecasts": [{"at_ms": 5200, "round": 2, "converges": True, "eta_ms": 3100, "eta_error_ms": 310, "pause_ms": 240,
                            "pause_error_ms": 24, "dirty_rate_bps": 5000000, "effective_rate_bps": 90000000, "decision": "go-on",
                            "throttle": 0},
                           {"at_ms": 6900, "round": 3, "converges": False, "eta_ms": 0, "eta_error_ms": 0, "pause_ms": 900,
                            "pause_error_ms": 90, "dirty_rate_bps": 120000000, "effective_rate_bps": 90000000, "decision": "throttle",
                            "throttle": 40}],
             "events": MIGRATION["events"] + [{"at": "2026-01-02T03:04:13.900Z", "event": "released", "detail": "epoch 4 " + "x " * 60}]}
NODE = {"name": "host-a", "address": "192.0.2.1:7450", "version": "0.1.0", "qemu_version": "7.2.0", "cpus": 2, "memory_bytes": 8 << 30,
        "memory_available_bytes": 6 << 30, "ca": True, "controller": True, "roster_version": 2}
NODE_CHECKS = {"node": "host-a", "verdict": "failed", "checks": [
    {"check": "qemu", "verdict": "ok", "value": "qemu-system-x86_64, version 7.2.0", "remedy": ""},
    {"check": "peer", "verdict": "failed", "value": "host-b (192.0.2.2:7450): it does not answer \x1b[31m", "remedy": "is that host up?"}]}
ENTRY = {"name": "host-b", "address": "192.0.2.2:7450", "state": "joined", "serial": "0a", "expires": "2027-01-02T03:04:05.678Z",
         "local": False}


PART = {"bytes": 1 << 28, "data_bytes": 1 << 27, "new_bytes": 1 << 24}
CHECKPOINT = {
    "id": "c-0tnpya6pejb5gsgd", "machine": "web1", "node": "host-a", "state": "ready", "created": "2026-01-02T03:04:05.678Z",
    "finished": "2026-01-02T03:04:07.100Z", "label": "before the upgrade", "scheduled": False, "mode": "background", "was_running": True,
    "pause_ms": 14.2, "epoch": 3, "qemu_version": "7.2.22", "memory": {**PART, "device_bytes": 160425},
    "disks": [{**PART, "name": "root", "path": "/srv/web1.qcow2", "format": "qcow2", "block_bytes": 4096}],
    "bytes": 1 << 29, "data_bytes": 1 << 28, "new_bytes": 1 << 25, "stored_bytes": 5 << 20, "progress": 100, "error": None,
    "activity": {"what": "verify", "state": "done", "error": None, "lost": [], "bytes": 1 << 28}}
RESTORED = {**CHECKPOINT, "activity": {"what": "restore", "state": "done", "error": None, "machine": "web2", "warnings": ["mind the MAC"]}}


STORE = {"node": "host-a", "directory": "/var/lib/novacron/store", "used_bytes": 3 << 30, "budget_bytes": 10 << 30, "free_bytes": 7 << 30,
         "disk_free_bytes": 50 << 30, "packs": 47, "pack_bytes": 2900 << 20, "pages": 1 << 21, "page_bytes": 8 << 30, "ratio": 2.82,
         "index_bytes": 90 << 20, "manifests": 3, "manifest_bytes": 12 << 20, "garbage_bytes": None, "garbage_counted": None,
         "encrypted": True, "read_only": False, "failed": False, "activity": None}
STORE_DONE = {"id": 7, "dry_run": False, "state": "done", "started": "2026-01-02T03:04:05.678Z", "finished": "2026-01-02T03:05:05.678Z", "error": None}
STORE_VERIFIED = {**STORE, "activity": {**STORE_DONE, "what": "verify", "packs": 47, "pages": 1 << 21, "bytes": 8 << 30, "manifests": 3, "findings": 0,
                                        "lost": 0, "damaged": [], "details": []}}
STORE_COLLECTED = {**STORE, "activity": {**STORE_DONE, "what": "gc", "dry_run": True, "live_bytes": 2 << 30, "garbage_bytes": 512 << 20, "freed_bytes": 0,
                                         "packs_removed": 0, "packs_rewritten": 0, "packs_held": 1, "packs_damaged": 0}}
STORE_HURT = {**STORE, "activity": {
    **STORE_VERIFIED["activity"], "state": "failed", "findings": 1, "lost": 12,
    "error": {"code": "corrupt", "message": "the page store of node host-a (/var/lib/novacron/store) is damaged: a checkpoint loses something: c-1"},
    "damaged": [{"checkpoint": "c-1", "machine": "web1", "pages": 12, "bytes": 49152, "text": "the record that holds the block is damaged"}],
    "details": [{"kind": "pack", "file": "packs/00000001.pack", "offset": 4711, "text": "the record's checksum is wrong"}]}}


class FakeStore:
    """Shows what was begun last."""

    def __init__(self):
        self.now = STORE

    def show(self, store):
        def begin(args):
            self.now = store
            return {**store, "activity": {**store["activity"], "state": "running", "progress": 0, "finished": None, "error": None}}
        return begin


FAKE_STORE = FakeStore()


def named(thing):
    def get(args):
        if args.get("name") == "nobody" or args.get("id") == "m-nobody":
            raise Refusal("not_found", f"there is no such thing as {args} on this node")
        return thing
    return get


def check_of(args):
    """Of a machine named `odd` something speaks against it."""
    checks = [{"check": "round trip", "verdict": "ok", "value": "20.1 ms", "remedy": ""},
              {"check": "qemu version", "verdict": "warning", "value": "8.2.0 here, the older 7.2.0 there", "remedy": "a machine type both know"}]
    if args["vm"] == "odd":
        checks.append({"check": "bridge", "verdict": "failed", "value": "there is no bridge br9", "remedy": "make one"})
    return {"vm": args["vm"], "from": "host-a", "to": args["to"], "verdict": checks[-1]["verdict"], "checks": checks}


def plan_of(args):
    """A machine named `busy` dirties too much for pre-copy."""
    converges = args["vm"] != "busy"
    known = {"eta_ms": 4200, "eta_error_ms": 1300, "pause_ms": 212, "pause_error_ms": 64, "wire_bytes": 61 << 20, "ratio": 3.1}
    return {"vm": args["vm"], "from": "host-a", "to": args["to"], "algorithm": "pre-copy", "converges": converges,
            "reason": "the guest dirties 25.0 MB/s and 9.8 MB/s can be sent: " + "and so on " * 9, "ram_total_bytes": 1 << 28,
            "content_bytes": None if args["vm"] == "dark" else 92 << 20, "dirty_rate_bps": 25000000, "link_rate_bps": 112000000,
            "link_rtt_us": 20100, "effective_rate_bps": 9800000, "basis": "vm",
            "disks": [{"name": "root", "path": "/srv/web1.qcow2", "format": "qcow2", "bytes": 3 << 30, "flattened": False, "chain_kept": True,
                       "write_rate_bps": 2100000, "wire_bytes": 1 << 30, "eta_ms": 31000, "slowed": True}],
            "disk_eta_ms": 31000, "disk_wire_bytes": 1 << 30,
            **{key: value if converges else None for key, value in known.items()}}


PROGRESS = {"phase": "memory_copy", "progress": 43, "transfer_rate": 112300000, "eta": "12s", "eta_ms": 12000, "ram_remaining_bytes": 1 << 28,
            "wire_bytes": 1 << 26, "rounds": 1, "attempt": 1}
STATUS = {**PROGRESS, **{key: MIGRATION[key] for key in ("id", "vm", "source", "destination", "role", "state", "outcome", "pause_ms", "attention",
                                                        "created", "started", "finished", "error")}, "attempts": [], "elapsed_ms": 4000}
METRICS = {**dict.fromkeys(("outcome", "average_wire_rate_bytes", "rate_limit_bytes", "link_rate_bytes", "network_latency_ms", "downtime_milliseconds",
                            "qemu_downtime_milliseconds", "expected_downtime_milliseconds", "cpu_usage_percent", "memory_usage_bytes",
                            "ram_remaining_bytes", "dirty_rate_bytes", "throttle_percent", "in_flight_bytes", "window_bytes", "reconnects",
                            "resent_bytes", "pages", "zero_pages", "reference_pages", "delta_pages", "coding")),
           "id": "m-1", "vm": "web1", "phase": "memory_copy", "progress": 43, "compression_ratio": 4.0, "duration_seconds": 4.0,
           "transfer_rate_bytes": 112300000, "wire_rate_bytes": 30000000, "wire_bytes": 1 << 26, "ram_bytes": 1 << 28,
           "ram_total_bytes": 1 << 29, "rounds": 1, "disk_iops": 0, "disk_rate_bytes": 0}
SPREAD = {"count": 1, "median": 212.0, "p95": 212.0, "max": 212.0}
DASHBOARD = {"window": 1000, "migrations": 2, "by_state": {"copying": 1, "done": 1}, "by_phase": {"memory_copy": 1, "completed": 1},
             "by_outcome": {"completed": 1}, "wire_bytes": 1 << 27, "ram_bytes": 1 << 29, "transfer_rate": 112300000, "wire_rate": 30000000,
             "success_rate": 1.0, "pause_ms": SPREAD, "total_ms": {**SPREAD, "count": 0, "median": None, "p95": None, "max": None},
             "running": [STATUS]}
STEPS = ["stop-transfer", "fence-destination", "verify-base", "restore-disks", "restore-memory", "restore-devices-and-network",
         "resume-and-verify-alive", "clean-up"]
ROLLBACK = {"id": "r-1", "migration": "m-1", "vm": "web1", "attempt": 1, "mode": "source", "checkpoint": None, "cancelled": True,
            "cause": {"code": "cancelled", "message": "cancelled"}, "state": "completed", "attention": None, "error": None,
            "steps": [{"step": n + 1, "name": name, "state": "nothing-to-do" if n in (3, 4) else "done", "tries": 1, "begun": "", "ended": "",
                       "detail": "what was seen, " * 6} for n, name in enumerate(STEPS)]}
ROLLED_BACK = {**MIGRATION, "state": "cancelled", "phase": "cancelled", "outcome": "cancelled", "rollbacks": [ROLLBACK]}
ALERT = {"id": "a-0t7bd31dsw67hqqr.1", "alert": "NovacronHighLatency", "severity": "warning", "state": "firing", "summary": "web1: round trip of 240 ms to host-b",
         "remedy": "Is something else filling the link's queue?", "value": 240.0, "threshold": 100.0, "unit": "ms", "since": "2026-01-02T03:04:05.678Z",
         "fired": "2026-01-02T03:05:05.678Z", "resolved": None, "reason": None, "inhibited_by": None, "node": "host-a", "migration": "m-0t7bd31dsw67hqqr",
         "vm": "web1", "source": "host-a", "destination": "host-b", "role": "source"}
STORE_ALERT = {**{key: value for key, value in ALERT.items() if key not in ("migration", "vm", "source", "destination", "role")},
               "id": "a-0t7bd31dsw67hqqr.2", "alert": "NovacronStoreDown", "severity": "critical", "summary": "the page store of host-a takes no checkpoints",
               "state": "resolved", "resolved": "2026-01-02T03:06:05.678Z", "reason": "condition", "value": None, "threshold": None, "unit": ""}
AUDIT = [{"seq": 4711, "at": "2026-01-02T03:04:05.678Z", "kind": "request", "subject": "web1", "vm": "", "actor": "uid:0",
          "detail": {"op": "machine.start", "args": {"name": "web1"}}, "hash": "ab" * 32}]
PROOF = {"ok": True, "entries": 4711, "seq": 4711, "hash": "ab" * 32, "at": "2026-01-02T03:04:05.678Z", "first_bad": None, "problem": None,
         "sealed_seq": 4711, "sealed_at": "2026-01-02T03:04:06.100Z",
         "peers": [{"node": "host-b", "seq": 4700, "hash": "cd" * 32}, {"node": "host-c", "error": "can't connect"}]}

FLEET_NODE = {"name": "host-a", "address": "192.0.2.1:7450", "memory_bytes": 8 << 30, "disk_bytes": 0, "cpus": 8, "rate_bps": 125000000,
              "in_limit": 0, "out_limit": 0, "labels": [], "is_cordoned": False, "evacuation": "", "joined_us": 1767322800000000,
              "seen_us": 1767322810000000, "heard_s": 3, "is_silent": False, "detail": {},
              "file_systems": [{"directories": ["/srv/vm"], "free_bytes": 5 << 40, "is_missing": False}]}
FLEET_MACHINE = {"name": "web1", "node": "host-a", "epoch": 3, "state": "running", "memory_bytes": 1 << 29, "disk_bytes": 0, "cpus": 2,
                 "priority": "normal", "requires": [], "seen_us": 1767322810000000, "detail": {},
                 "disks": [{"directory": "/srv/vm", "bytes": 5 << 30}]}
FLEET_MIGRATION = {"seq": 17, "id": "mig-0t7bd31dsw67hqqr", "machine": "web1", "source": "host-a", "destination": "host-b", "state": "running",
                   "is_finished": False, "priority": "high", "attempts": 1, "epoch": 2, "batch": "", "evacuation": "", "actor": "certificate:alice",
                   "submitted_us": 1767322810000000, "started_us": 1767322811000000, "finished_us": 0, "not_before_us": 0, "reason": "",
                   "cancel_reason": "", "request": {"qos": "normal"}, "result": {},
                   "live": {"waits": "", "phase": "memory_copy", "percent": 43.5, "rate_bps": 50000000, "endgame": "none", "silence": "",
                            "sample": {"transfer_rate": 48000000, "eta_ms": 12000, "wire_bytes": 1 << 26, "ram_remaining_bytes": 1 << 28, "rounds": 1}}}
FLEET_COUNTS = {**dict.fromkeys(("queued", "backoff", "starting", "running", "failed", "refused", "cancelled"), 0), "completed": 2}
FLEET_BATCH = {"seq": 3, "id": "bat-0t7bd31dsw67hqqr", "policy": "any", "actor": "certificate:alice", "created_us": 1767322810000000,
               "detail": {"not_submitted": []}, "migrations": FLEET_COUNTS}
FLEET_EVACUATION = {"seq": 2, "id": "eva-0t7bd31dsw67hqqr", "nodes": ["host-a"], "state": "completed", "is_finished": True,
                    "actor": "certificate:alice", "created_us": 1767322810000000, "changed_us": 1767322870000000, "reason": "",
                    "detail": {"allow_partial": False, "planned_seconds": 61.5, "request": {}}, "migrations": FLEET_COUNTS}
FLEET_ITEM = {"position": 4, "machine": "web1", "source": "host-a", "destination": "host-b", "wave": 1, "migration": FLEET_MIGRATION["id"],
              "goes_to": "host-c", "state": "running", "reason": ""}
FLEET_EVENT = {"id": 9, "at_us": 1767322810000000, "kind": "migration.state", "subject": FLEET_MIGRATION["id"], "migration": FLEET_MIGRATION["id"],
               "detail": {"state": "running", "reason": "", "attempt": 1}}
FLEET_PLAN = {"nodes": ["host-a"], "moves": [{"machine": "web1", "source": "host-a", "destination": "host-b", "wave": 0, "seconds": 30.5,
                                              "pause_s": 0.2, "wire_bytes": 3e8, "postcopy": False}],
              "cannot_move": [{"machine": "web2", "reason": "no node has 64 GiB of memory left"}],
              "waves": [{"moves": 1, "seconds": 30.5, "memory_bytes": 5e8, "wire_bytes": 3e8, "pause_s": 0.2}], "seconds": 30.5, "is_at_least": False, "empties": False}


def without(thing, key):
    return {name: value for name, value in thing.items() if name != key}


def fleet_thing(args):
    """What fleet.get has of an id, by its kind."""
    if args["id"].endswith("-none"):
        raise Refusal("not_found", f"the controller knows no {args['id']}")
    return {"mig": FLEET_MIGRATION, "bat": FLEET_BATCH, "eva": FLEET_EVACUATION}[args["id"].split("-")[0]]


def fleet_move_status(args):
    m = fleet_thing(args)
    return {**STATUS, **{key: m[key] for key in ("id", "source", "destination", "state", "is_finished")}, "vm": m["machine"], "waits": ""}


GROUP_PROGRESS = {"phase": "running", "progress": 43.5, "transfer_rate": 48000000, "eta": "20s", "eta_ms": 20000, "eta_basis": "plan", "total": 3, "done": 1,
                  "counts": {**FLEET_COUNTS, "completed": 1, "running": 1, "queued": 1},
                  "running": [{"migration": FLEET_MIGRATION["id"], "machine": "web1", "source": "host-a", "destination": "host-b", "attempt": 1,
                               "phase": "memory_copy", "progress": 43.5, "transfer_rate": 48000000, "eta_ms": 12000, "silence": ""}]}


def fleet_watched(args):
    """One event of each kind of stream, and a sample; of everything there are no samples."""
    at = {"id": 9, "at": "2026-01-02T03:04:05.678Z"}
    part = {**at, "type": "event", "data": {"event": "migration.state", "detail": "running, attempt 1", "subject": FLEET_MIGRATION["id"], "migration": FLEET_MIGRATION["id"],
                                            "facts": FLEET_EVENT["detail"]}}
    if "id" not in args:
        return {"id": "", "events": [part] if args.get("since", 0) < 9 else [], "last": 9, "more": False, "from": args.get("since", 8)}
    fleet_thing(args)
    is_one = args["id"].startswith("mig-")
    event = {**at, "type": "phase", "data": {"phase": "memory_copy", "event": "phase", "detail": "attempt 1"}} if is_one else part
    return {"id": args["id"], "events": [event] if args.get("since", 0) < 9 else [], "last": 9, "more": False, "ended": False,
            "progress": {**PROGRESS, "waits": ""} if is_one else GROUP_PROGRESS}


def fleet_cancelled(args):
    if args["id"].startswith("mig-"):
        return {"id": args["id"], "state": "cancelling"}
    return {"id": args["id"], "cancelled": 2, "under_way": 1}


def fleet_batch_of(args):
    items = [{"machine": m["machine"], "migration": f"mig-000000000000000{n}", "reason": ""} for n, m in enumerate(args["migrations"])]
    return {"id": FLEET_BATCH["id"], "policy": args.get("policy", "any"), "submitted": len(items), "items": items}


BEARER = {"id": "tok-0t7bd31dsw67hqqr", "scope": "node", "subject": "ci", "role": "operator", "state": "good", "actor": "uid:0",
          "created": "2026-01-02T03:04:05.678Z", "expires": "2026-04-02T03:04:05.678Z", "revoked": None}
# What novacrond would have a hash of: token -> what it says of it.
TOKENS = {f"tok-{role}.{'5e' * 32}": {**BEARER, "id": f"tok-{role}", "subject": f"{role}-program", "role": role} for role in ("viewer", "operator", "admin")}


def token_checked(args):
    if args["token"] not in TOKENS:
        raise Refusal("unauthenticated", "the token is not known, has run out, or was ended: ask an administrator for a new one")
    return TOKENS[args["token"]]


HANDLERS = {
    "alert.list": lambda args: [ALERT, STORE_ALERT],
    "alert.watch": lambda args: {"events": [{"id": 9, "type": "alert", "at": "2026-01-02T03:04:05.678Z", "data": STORE_ALERT}] if args.get("since", 0) < 9 else [],
                                 "last": 9, "more": False, "from": args.get("since", 8)},
    "token.create": lambda args: {"id": BEARER["id"], "token": BEARER["id"] + "." + "5e" * 32, "scope": args.get("scope", "node"),
                                  "subject": args["subject"], "role": args["role"], "expires": None},
    "token.list": lambda args: [BEARER, {**BEARER, "id": "ftok-0t7bd31dsw67hqqr", "scope": "fleet", "expires": None, "state": "revoked",
                                         "revoked": "2026-01-02T03:04:05.678Z"}],
    "token.revoke": lambda args: {"id": args["id"], "state": "revoked"}, "token.check": token_checked,
    "fleet.status": lambda args: {"controller": "host-a", "leads": True, "epoch": 2, "holder": "host-a-0t7bd31d", "address": "192.0.2.1:7450"},
    "fleet.nodes": lambda args: {"items": [FLEET_NODE], "next": "node:host-a"},
    "fleet.machines": lambda args: {"items": [FLEET_MACHINE], "next": None},
    "fleet.explain": lambda args: {"machine": args["name"], "chosen": "host-b", "nodes_left_out": 0, "nodes": [
        {"node": "host-b", "score": 81.5}, {"node": "host-a", "refused": "own_node", "detail": "the machine is there"}]},
    "fleet.list": lambda args: {"items": [without(FLEET_MIGRATION, "live")], "next": "migration:17"},
    "fleet.migrate": lambda args: {"id": FLEET_MIGRATION["id"], "machine": args["machine"], "state": "queued"},
    "fleet.evacuations": lambda args: {"items": [without(FLEET_EVACUATION, "migrations")], "next": None},
    "fleet.batches": lambda args: {"items": [without(FLEET_BATCH, "migrations")], "next": "batch:3"},
    "fleet.events": lambda args: {"items": [FLEET_EVENT], "oldest": 1, "newest": 9}, "fleet.items": lambda args: {"items": [FLEET_ITEM], "next": "item:4"},
    "fleet.batch": fleet_batch_of, "fleet.plan": lambda args: FLEET_PLAN,
    "fleet.evacuate": lambda args: {"id": FLEET_EVACUATION["id"], "state": "planned", "plan": FLEET_PLAN},
    "fleet.cordon": lambda args: {"node": args["node"], "is_cordoned": True}, "fleet.uncordon": lambda args: {"node": args["node"], "is_cordoned": False},
    "fleet.move_status": fleet_move_status,
    "fleet.get": fleet_thing, "fleet.cancel": fleet_cancelled, "fleet.watch": fleet_watched,
    "node.info": lambda args: NODE, "node.checks": lambda args: NODE_CHECKS, "node.list": lambda args: [{**ENTRY, "name": "host-a", "local": True}, ENTRY],
    "node.renew": lambda args: {"name": "host-b", "signer": args.get("from", "host-a"), "certificate_expires": "2028-04-06T03:04:05.678Z",
                                "old_is_revoked": True},
    "node.token": lambda args: {"token": "nc1.id.secret.ca", "expires": "2026-01-02T04:04:05.678Z"}, "node.remove": named(ENTRY),
    "node.metrics": lambda args: {"text": "# EOF\n" if args["openmetrics"] else "x 1\n", "type": "text/x-metrics; version=7"},
    "machine.define": lambda args: {**MACHINE, "name": args["spec"]["name"], "state": "stopped"}, "machine.list": lambda args: [MACHINE],
    "machine.get": named(MACHINE), "machine.start": named(MACHINE), "machine.stop": named({**MACHINE, "state": "stopped"}),
    "machine.destroy": named(MACHINE), "machine.adopt": lambda args: {**MACHINE, "name": args["name"], "adopted": True},
    "checkpoint.create": named(CHECKPOINT), "checkpoint.list": lambda args: [CHECKPOINT], "machine.checkpoints": lambda args: [CHECKPOINT],
    "checkpoint.get": lambda args: RESTORED if args["id"] == "c-restored" else CHECKPOINT, "checkpoint.delete": named(CHECKPOINT),
    "checkpoint.verify": named(CHECKPOINT), "checkpoint.restore": named(CHECKPOINT),
    "checkpoint.copy": named(CHECKPOINT), "checkpoint.cancel": named(CHECKPOINT),
    "checkpoint.schedule": lambda args: {**MACHINE, "spec": {**MACHINE["spec"], "checkpoint_keep": 24}},
    "store.status": lambda args: FAKE_STORE.now, "store.verify": FAKE_STORE.show(STORE_VERIFIED), "store.gc": FAKE_STORE.show(STORE_COLLECTED),
    "store.cancel": FAKE_STORE.show(STORE_COLLECTED),
    "migration.check": lambda args: check_of(args), "migration.plan": lambda args: plan_of(args),
    "migration.create": lambda args: MIGRATION, "migration.list": lambda args: {"items": [COMPLETED, MIGRATION][:args.get("limit")], "next": None},
    "migration.status": named(STATUS), "migration.metrics": named(METRICS), "migration.dashboard": lambda args: DASHBOARD,
    "migration.watch": lambda args: {"id": args["id"], "events": [], "last": 0, "more": False, "ended": False, "progress": PROGRESS},
    "migration.rollback": named(ROLLED_BACK), "audit.list": lambda args: AUDIT, "audit.verify": lambda args: PROOF,
    "migration.get": lambda args: named(ROLLED_BACK if args.get("id") == "m-back" else COMPLETED)(args), "migration.cancel": named(MIGRATION), "migration.limit": named(MIGRATION), "migration.resolve": named(MIGRATION),
}


class Bed:
    """One gate, its novacrond, and what clients need."""

    def __init__(self, directory, *options, handlers=None, under=()):
        self.dir = str(directory)
        self.socket = os.path.join(self.dir, "api.sock")
        self.control = os.path.join(self.dir, "control.sock")
        self.config = os.path.join(self.dir, "gate.conf")
        with open(self.config, "w", encoding="ascii") as f:
            f.write("[gate]\nlog-format = text\n")
        self.daemon = FakeNovacrond(self.control, {**HANDLERS, **(handlers or {})}).start()
        self.log = open(os.path.join(self.dir, "gate.log"), "w+")
        self.gate = subprocess.Popen([*under, GATE, "--config", self.config, "--socket", self.socket, "--control", self.control,
                                      "--log-level", "debug", *options], stderr=self.log)
        self.wait_up()

    def wait_up(self):
        for _ in range(200):
            assert self.gate.poll() is None, self.log_text()
            try:
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(self.socket)
                return
            except OSError:
                time.sleep(0.05)
        raise TimeoutError("the gate does not listen")

    def log_text(self):
        self.log.seek(0)
        return self.log.read()

    def close(self):
        """Ends the gate; it must end by itself and in order."""
        self.gate.send_signal(signal.SIGTERM)
        try:
            status = self.gate.wait(20)
        finally:
            self.gate.kill()
            self.gate.wait()
            self.daemon.stop()
        text = self.log_text()
        self.log.close()
        assert status == 0, text

    def raw(self, data, timeout=30):
        """Sends bytes, returns all that comes back until the other side closes or is silent."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout)
            s.connect(self.socket)
            got = b""
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                while True:
                    part = s.recv(65536)
                    if not part:
                        break
                    got += part
            except (BrokenPipeError, ConnectionResetError):
                pass
        return got

    def call(self, method, path, body=None, headers=None):
        return exchange(UnixConnection(self.socket), method, path, body, headers)

    def cli(self, *arguments, **more):
        return subprocess.run([CLI, "--socket", self.socket, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=60, **more)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.unix_path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.unix_path)


# For whole modules that change nothing for each other; those that import both by name have them.
@pytest.fixture(scope="module")
def bed(tmp_path_factory):
    b = Bed(tmp_path_factory.mktemp("gate"), "--no-https")
    yield b
    b.close()


@pytest.fixture(scope="module")
def document(bed):
    return bed.call("GET", "/api/v2/openapi.json").json


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()
        self.json = json.loads(self.text) if self.text and "json" in self.headers["Content-Type"] else None


def exchange(connection, method, path, body=None, headers=None):
    data = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
    headers = dict(headers or {})
    if data is not None:
        headers.setdefault("Content-Type", "application/json")
    connection.request(method, path, data, headers)
    answer = Answer(connection.getresponse())
    connection.close()
    return answer


class Keys:
    """A CA, a server's key and clients' keys, by openssl."""

    def __init__(self, directory):
        self.dir = str(directory)
        self.ca = self.make_ca("ca")
        self.server = self.issue("ca", "server", "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth")

    def path(self, name):
        return os.path.join(self.dir, name)

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def new_key(self, name):
        self.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.path(name + ".key"))

    def make_ca(self, name):
        self.new_key(name)
        self.openssl("req", "-x509", "-new", "-key", self.path(name + ".key"), "-subj", f"/CN={name}", "-days", "30",
                     "-out", self.path(name + ".crt"))
        return self.path(name + ".crt")

    def issue(self, ca, name, extensions="extendedKeyUsage=clientAuth", days="30", subject=None):
        self.new_key(name)
        with open(self.path(name + ".ext"), "w", encoding="ascii") as f:
            f.write(extensions + "\n")
        self.openssl("req", "-new", "-key", self.path(name + ".key"), "-subj", subject or f"/CN={name}", "-out", self.path(name + ".csr"))
        self.openssl("x509", "-req", "-in", self.path(name + ".csr"), "-CA", self.path(ca + ".crt"), "-CAkey", self.path(ca + ".key"),
                     "-CAcreateserial", "-days", days, "-extfile", self.path(name + ".ext"), "-out", self.path(name + ".crt"))
        return self.path(name + ".crt"), self.path(name + ".key")


def tls_context(keys, client=None, version=ssl.TLSVersion.TLSv1_3):
    context = ssl.create_default_context(cafile=keys.ca)
    context.minimum_version = context.maximum_version = version
    if client:
        context.load_cert_chain(*client)
    return context


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
