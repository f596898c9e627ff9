# SPDX-License-Identifier: Apache-2.0
"""What is measured, as data."""

from dataclasses import dataclass

SIZES = [60, 128, 256, 512, 1024, 1514, 9014]  # bytes, without FCS; 65,549 is an IPv4 packet of 65,535 bytes


@dataclass(frozen=True)
class Scenario:
    name: str
    kind: str  # a function of measure.py
    title: str
    size: object = 60  # or "imix"
    ports: int = 2
    pairs: int = 1
    packed: bool = False
    piece: int = 0  # bytes of a buffer; 0: one holds the longest frame
    flight: int = 1024  # frames on their way in each direction, at most
    ring: int = 1024  # entries of each ring
    gso: int = 0  # frames are TCP, to be cut into segments of so much payload by whoever needs that
    quick: bool = False


def rate(size, **more):
    title = "IMIX" if size == "imix" else f"{size} B"
    return Scenario(f"rate-{size}", "rate", title, size=size, **more)


def story(size, title, **more):
    return Scenario(f"story-{title.replace(' ', '-')}", "story", title, size=size, **more)


LIST = [
    *(rate(size, quick=size == 1514) for size in SIZES),
    rate(65549, flight=64),
    rate("imix"),
    Scenario("packed-60", "rate", "60 B, packed rings", packed=True),
    Scenario("packed-1514", "rate", "1514 B, packed rings", size=1514, packed=True),
    Scenario("chains-9014", "rate", "9014 B in buffers of 2 KiB", size=9014, piece=2048),
    Scenario("queues-60", "rate", "60 B, 2 queue pairs", pairs=2),
    Scenario("queues-1514", "rate", "1514 B, 2 queue pairs", size=1514, pairs=2),
    Scenario("ports16-256", "rate", "256 B, 16 ports", size=256, ports=16, flight=128, ring=256),
    Scenario("ports64-256", "rate", "256 B, 64 ports", size=256, ports=64, flight=32, ring=256),
    Scenario("virtio-user-60", "virtio_user", "60 B, DPDK's virtio-user as client"),
    Scenario("virtio-user-1514", "virtio_user", "1514 B, DPDK's virtio-user as client", size=1514),
    Scenario("virtio-user-9014", "virtio_user", "9014 B, DPDK's virtio-user as client", size=9014),
    Scenario("latency-idle", "idle_latency", "one frame, both ends asleep", quick=True),
    Scenario("latency-eventfd", "eventfd", "two eventfd wake-ups, no switch", quick=True),
    Scenario("latency-half-60", "half_load", "60 B at half the rate"),
    Scenario("latency-half-1514", "half_load", "1514 B at half the rate", size=1514),
    Scenario("idle-2", "idle", "2 ports attached", quick=True),
    Scenario("idle-64", "idle", "64 ports attached", ports=64),
    story(1514, "MTU 1500"),
    story(9014, "MTU 9000"),
    story(65226, "super-frames", gso=1448, flight=64, ring=256),
    Scenario("memory-2", "memory", "2 ports"),
    Scenario("memory-64", "memory", "64 ports", ports=64),
]

# For each kind: a heading, and its metrics with (title, unit, digits, better).
KINDS = {
    "rate": ("Both directions at once", {
        "mpps": ("rate", "M frames/s", 2, "more"),
        "cycles": ("busy cycles a frame", "cycles", 0, "less"),
        "own_cycles": ("without what others took", "cycles", 0, "less"),
    }),
    "story": ("A gigabyte, in frames of different length", {
        "frames_per_gb": ("frames", "thousands", 1, "less"),
        "mcycles_per_gb": ("busy cycles of the switch", "millions", 0, "less"),
        "own_mcycles_per_gb": ("without what others took", "millions", 0, "less"),
        "gbps": ("rate, both directions at once", "Gb/s", 1, "more"),
    }),
    "virtio_user": ("Both directions at once, an independent client", {
        "mpps": ("rate", "M frames/s", 2, "more"),
        "cycles": ("busy cycles a frame", "cycles", 0, "less"),
        "own_cycles": ("without what others took", "cycles", 0, "less"),
    }),
    "idle_latency": ("Latency of a lone frame", {
        "p50_us": ("median", "µs", 1, "less"),
        "p99_us": ("99 %", "µs", 1, "less"),
        "p999_us": ("99.9 %", "µs", 1, "less"),
    }),
    "eventfd": ("Latency of two bare wake-ups", {
        "p50_us": ("median", "µs", 1, "less"),
        "p99_us": ("99 %", "µs", 1, "less"),
        "p999_us": ("99.9 %", "µs", 1, "less"),
    }),
    "half_load": ("Latency at half the rate", {
        "p50_us": ("median", "µs", 1, "less"),
        "p99_us": ("99 %", "µs", 1, "less"),
        "p999_us": ("99.9 %", "µs", 1, "less"),
    }),
    "idle": ("Idle", {"cpu_percent": ("CPU", "% of a core", 2, "less")}),
    "memory": ("Memory of its own", {"mib": ("memory", "MiB", 1, "less")}),
}  # fmt: skip


def select(only, quick):
    """The scenarios whose name contains one of @only, or all; of these the quick ones."""
    chosen = [s for s in LIST if not only or any(word in s.name for word in only)]
    return [s for s in chosen if s.quick] if quick and not only else chosen
