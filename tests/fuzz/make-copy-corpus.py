#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of fuzz_copy: what a sender says, whole and with something wrong, built from src/checkpoint/copy.h."""

import hashlib
import json
import os
import struct

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "fuzz_copy")
ID = "c-0tnpya6pejb5gsgd"
PAGE = b"a page of memory " * 16


def say(behind=b"", **message):
    text = json.dumps(message).encode()
    return struct.pack(">I", len(text)) + text + behind


def offer(entries, blocks, block_bytes, **more):
    return say(type="cp_offer", **{"id": ID, "machine": "web1", "entries": entries, "blocks": blocks, "block_bytes": block_bytes, **more})


def names(*entries):
    body = b"".join(digest + struct.pack(">I", length) for digest, length in entries)
    return say(body, type="cp_names", count=len(entries), bytes=len(body))


def blocks(count, content, raw=None):
    return say(content, type="cp_blocks", count=count, raw=len(content) if raw is None else raw, bytes=len(content))


def end(machine="web1", layout=0):
    header = b"NCCP" + struct.pack(">HHI", 1, 0, layout) + json.dumps({"machine": machine}).encode()
    return say(header, type="cp_end", bytes=len(header))


NAME, HOLE = (hashlib.sha256(PAGE).digest(), len(PAGE)), (bytes(32), 4096)
SEEDS = {
    "whole": offer(3, 2, 2 * len(PAGE)) + names(NAME, HOLE, NAME) + blocks(1, PAGE) + end(),
    "two-turns": offer(2, 1, len(PAGE)) + names(HOLE) + names(NAME) + blocks(1, PAGE) + end(),
    "wrong-content": offer(1, 1, 8) + names((bytes([1]) * 32, 8)) + blocks(1, b"01234567") + end(),
    "not-zstd": offer(1, 1, 8) + names((bytes([2]) * 32, 8)) + blocks(1, b"0123", raw=8) + end(),
    "too-short": offer(2, 1, len(PAGE)) + names(HOLE) + end(),
    "too-long": offer(1, 0, 0) + names(HOLE) + names(HOLE) + end(),
    "other-machine": offer(1, 0, 0) + names(HOLE) + end("web2"),
    "refused": offer(1, 0, 0) + say(type="refused", error={"code": "corrupt", "message": "a block is damaged"}),
    "path": offer(1, 0, 0, id="../../x") + names(HOLE) + end(),
}

os.makedirs(OUT, exist_ok=True)
for name, data in SEEDS.items():
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(data)
