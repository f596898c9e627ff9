# SPDX-License-Identifier: Apache-2.0
"""One run of one scenario with one peer: a function for each kind. Each returns a dict of numbers: the metrics of
scenarios.KINDS, and what else is worth keeping."""

import shutil
import tempfile
import time
from pathlib import Path

from clients import Load, VirtioUser, load_once
from processes import Failed

WARM_UP_S = 0.3


def rate(peer, seconds):
    with Load(peer) as load:
        return measure_rate(peer, load, seconds)


def story(peer, seconds):
    """What a gigabyte costs."""
    result = rate(peer, seconds)
    frames = 1e9 / peer.scenario.size
    per_gb = {f"{'own_' if own else ''}mcycles_per_gb": result[key] * frames / 1e6
              for own, key in enumerate(("cycles", "own_cycles")) if key in result}  # fmt: skip
    return result | {"frames_per_gb": frames / 1e3} | per_gb


def virtio_user(peer, seconds):
    with VirtioUser(peer) as client:
        return measure_rate(peer, client, seconds)


def measure_rate(peer, client, seconds):
    time.sleep(WARM_UP_S)
    before = peer.counters()
    client.mark()
    time.sleep(seconds)
    mark, after = client.mark(), peer.counters()
    if not mark["frames"]:
        raise Failed("no frame arrived")
    if mark.get("bad"):
        raise Failed(f"{mark['bad']} frames arrived damaged")
    result = {"mpps": mark["fps"] / 1e6} | spent(before, after, mark)
    return result | {key: mark[key] for key in ("gbps", "frames", "lost", "late", "stray") if key in mark}


def spent(before, after, mark):
    """Cycles a frame: by the peer's own account of its busy polls, else by its CPU time, which is more."""
    cpu_s = after["cpu_s"] - before["cpu_s"]
    result = {"cpu_share": cpu_s / mark["seconds"], "cpu_ns_per_frame": cpu_s * 1e9 / mark["frames"]}
    frames = after.get("frames", 0) - before.get("frames", 0)
    if frames > 0 and "busy" in after:
        result |= {"cycles": (after["busy"] - before["busy"]) / frames, "cycles_from": "busy-polls"}
    elif "hz" in mark:
        result |= {"cycles": cpu_s * mark["hz"] / mark["frames"], "cycles_from": "cpu-time"}
    if frames > 0 and "stages" in after:
        result |= stages(before, after, frames)
    if "cycles" in result:
        result["own_cycles"] = result["cycles"] * undisturbed(result)
    return result


def undisturbed(run):
    """Which part of the cycles a switch counted it had for itself: others on its core interrupt busy polls as often as
    empty ones. A peer that polls without end should have had all the time; flue what its stages add up to."""
    if run["cycles_from"] == "cpu-time":
        return 1
    return min(1, 1 / run["stages_to_cpu_time"] if run.get("stages_to_cpu_time") else run["cpu_share"])


def stages(before, after, frames):
    """Where flue's cycles went; and do the stages add up to what the worker's clock says?"""
    cpu = (after["worker_cpu_s"] - before["worker_cpu_s"]) * after["hz"]
    by_stage = {name: (after["stages"][name] - before["stages"][name]) / frames for name in after["stages"]}
    polled = after["polled"] - before["polled"]
    return {"stages": by_stage, "stages_to_cpu_time": polled / cpu if cpu > 0 else 0}


def latencies(report):
    if not report["latency"]["n"]:
        raise Failed("no frame arrived")
    return {key: report["latency"][key] for key in ("p50_us", "p99_us", "p999_us", "n")} | {"lost": report["lost"]}


def idle_latency(peer, seconds):
    return latencies(load_once(peer.build, peer.directory, "pingpong", seconds, peer=peer))


def half_load(peer, seconds):
    """Half of what this very peer carried a moment ago."""
    with Load(peer) as load:
        time.sleep(WARM_UP_S)
        load.mark()
        time.sleep(seconds / 2)
        most = load.mark()["fps"]
    with Load(peer, "--pace", most / 2) as load:
        time.sleep(WARM_UP_S)
        load.mark()
        time.sleep(seconds)
        mark = load.mark()
    return latencies(mark) | {"pace": most / 2, "mpps": mark["fps"] / 1e6}


def idle(peer, seconds):
    """Ports attached and introduced; the client sends a frame in ten thousand seconds."""
    with Load(peer, "--pace", 0.0001):
        time.sleep(WARM_UP_S)
        before, began = peer.cpu_s(), time.monotonic()
        time.sleep(2 * seconds)
        return {"cpu_percent": 100 * (peer.cpu_s() - before) / (time.monotonic() - began)}


def memory(peer, seconds):
    """After traffic; without the guests' memory."""
    with Load(peer):
        time.sleep(WARM_UP_S + seconds / 2)
        return {"mib": peer.memory_bytes() / (1 << 20)}


def eventfd(build, seconds):
    directory = Path(tempfile.mkdtemp(prefix="flue-bench-"))
    try:
        return latencies(load_once(build, directory, "eventfd", seconds))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def run(peer_class, build, scenario, seconds):
    if scenario.kind == "eventfd":
        return eventfd(build, seconds)
    directory = Path(tempfile.mkdtemp(prefix="flue-bench-"))
    try:
        with peer_class(build, directory, scenario) as peer:
            return globals()[scenario.kind](peer, seconds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
