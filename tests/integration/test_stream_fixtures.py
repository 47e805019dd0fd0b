# SPDX-License-Identifier: Apache-2.0
"""The stream parser against streams of the QEMU that is installed.

Promises under test: what the parser reports is enough to write the same bytes
again, in whatever pieces they arrive; memory rebuilt from the pages it reports
is the memory of the destination; post-copy is understood to its last byte;
the end of a pre-copy stream is recognised; the return path falls into whole
messages, the last of which is SHUT.

    NC_BUILD=build /usr/bin/python3 -m pytest tests/integration/test_stream_fixtures.py
    NC_STREAMS=DIRECTORY ...      keeps the recordings there (seeds for tests/fuzz/run.sh)
"""
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("NC_BUILD", "build")
DUMP = BUILD / "tests/fuzz/stream_dump"
MAKE = ROOT / "tests/fixtures/make-streams.py"
PRECOPY = ["precopy-idle", "precopy-dirty", "precopy-xbzrle"]
POSTCOPY = ["postcopy-stopped", "postcopy", "postcopy-preempt"]

pytestmark = pytest.mark.skipif(not DUMP.exists(), reason=f"{DUMP} is not built")


@pytest.fixture(scope="session")
def streams(tmp_path_factory):
    keep = os.environ.get("NC_STREAMS")
    return pathlib.Path(keep) if keep else tmp_path_factory.mktemp("streams")


@pytest.fixture(scope="session")
def recorded(streams):
    """A function from a name to its recording, made at the first use."""
    done = {}

    def get(name):
        if name not in done:
            run = subprocess.run([sys.executable, MAKE, streams, name], capture_output=True, text=True, timeout=240,
                                 check=False)
            if run.returncode == 77:
                pytest.skip(run.stdout.strip())
            assert run.returncode == 0, run.stdout + run.stderr
            done[name] = json.loads((streams / f"{name}.json").read_text(encoding="utf-8"))
        return done[name]

    return get


def dump(streams, info, *options):
    """Parses a recording; stream_dump itself fails if the bytes written back differ."""
    name = info["name"]
    ranges = ",".join(f"{start:#x}-{end:#x}" for start, end in info["ranges"])
    command = [DUMP, "--hash", f"{info['block']},{ranges}", "--reverse", streams / f"{name}.c0.rev", *options]
    if info["connections"] > 1:
        command += ["--preempt", streams / f"{name}.c1.fwd"]
    run = subprocess.run([*map(str, command), str(streams / f"{name}.c0.fwd")], capture_output=True, text=True,
                         timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", PRECOPY + POSTCOPY)
def test_pieces_make_no_difference(streams, recorded, name):
    info = recorded(name)
    whole = dump(streams, info)
    for seed in (1, 2, 3):
        assert dump(streams, info, "--seed", str(seed)) == whole


@pytest.mark.parametrize("name", PRECOPY + POSTCOPY)
def test_setup_and_return_path(streams, recorded, name):
    info = recorded(name)
    report = dump(streams, info)
    main, reverse = report["main"][0], report["reverse"][0]
    assert main["machine_type"].startswith("pc-i440fx-")
    assert {"name": info["block"], "used_length": info["block_bytes"]} in main["blocks"]
    assert sum(block["used_length"] for block in main["blocks"]) == info["ram"]["total"]
    assert main["at_tail"]
    assert main["bytes"] == main["length"]
    assert report["shut"] == 0
    assert reverse["shut"] == 1
    assert reverse["unfinished"] == 0


@pytest.mark.parametrize("name", PRECOPY)
def test_precopy_is_parsed_up_to_device_state(streams, recorded, name):
    info = recorded(name)
    main = dump(streams, info)["main"][0]
    assert main["opaque"] and main["reason"] == "device state"
    # Every page is before that point: QEMU's own counts say so.
    assert main["pages"] == info["ram"]["normal"]
    assert main["zero_pages"] == info["ram"]["duplicate"]
    assert main["length"] - main["opaque_offset"] < 1 << 20


@pytest.mark.parametrize("name", POSTCOPY)
def test_postcopy_is_parsed_to_the_last_byte(streams, recorded, name):
    main = dump(streams, recorded(name))["main"][0]
    assert not main["opaque"], main["reason"]
    data = (streams / f"{name}.c0.fwd").read_bytes()
    end = main["package_end"]
    assert data[end - 14:end] == bytes.fromhex("0800020004000000030800050000")  # PING 3, RUN
    assert data[end:end + 9] == bytes.fromhex("080002000400000004")  # PING 4


@pytest.mark.parametrize("name", POSTCOPY)
def test_discards_are_what_is_sent_behind_the_package(streams, recorded, name):
    """Page by page: whatever is discarded comes again exactly once, on either channel, and nothing else comes."""
    info = recorded(name)
    report = dump(streams, info)
    main = report["main"][0]
    assert main["discards"]
    discarded = sum(length for _, _, length in main["discards"]) // 4096
    assert discarded == main["late_pages"] + sum(second["pages"] + second["zero_pages"] for second in report["preempt"])
    for block, start, length in main["discards"]:
        used = next(b["used_length"] for b in main["blocks"] if b["name"] == block)
        assert length > 0 and (start | length) % 4096 == 0 and start + length <= used


@pytest.mark.parametrize("name", PRECOPY)
def test_precopy_never_gets_to_postcopy(streams, recorded, name):
    main = dump(streams, recorded(name))["main"][0]
    assert main["package_end"] == 0 and main["discards"] == []


@pytest.mark.parametrize("name", ["precopy-idle", "precopy-dirty", "postcopy-stopped"])
def test_rebuilt_memory_is_the_destinations(streams, recorded, name):
    info = recorded(name)
    assert dump(streams, info)["ram_sha256"] == info["ram_sha256"]


def test_dirty_recording_sends_pages_again(streams, recorded):
    """Else the comparison of memory would prove little."""
    idle, dirty = recorded("precopy-idle"), recorded("precopy-dirty")
    assert dirty["ram"]["dirty-sync-count"] > 3
    assert dump(streams, dirty)["main"][0]["pages"] > dump(streams, idle)["main"][0]["pages"] + 200


def test_running_guest_asks_for_pages(streams, recorded):
    reverse = dump(streams, recorded("postcopy"))["reverse"][0]
    assert reverse.get("req-pages-id", 0) + reverse.get("req-pages", 0) > 0


def test_preempt_channel_carries_requested_pages(streams, recorded):
    second = dump(streams, recorded("postcopy-preempt"))["preempt"][0]
    assert second["pages"] > 0
    assert not second["opaque"] and second["at_tail"]


def test_xbzrle_deltas_are_passed_over(streams, recorded):
    assert dump(streams, recorded("precopy-xbzrle"))["main"][0]["xbzrle_pages"] > 0
