# SPDX-License-Identifier: Apache-2.0
"""More than one worker: frames of several meet in one receive ring."""

import contextlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import frames as F
import pytest
from guest import Guest
from netns import bulk
from traffic import BURST, Flood, Traffic
from wait import wait_until

CPUS = sorted(os.sched_getaffinity(0))[:2]
pytestmark = pytest.mark.skipif(len(CPUS) < 2, reason="only one CPU")
HUB = F.mac(0xAA)


@pytest.fixture
def switch(start_flued):
    return start_flued({"workers": {"cpus": CPUS}})


def queues_of(switch, name):
    """What each receive queue of a port took, and who has it."""
    workers = switch.api("GET", "/v1/workers")["workers"]
    return [q | {"worker": w["id"]} for w in workers for q in w["queues"] if q["port"] == name]


def test_queues_are_spread_over_the_workers(switch, attach):
    attach("vm1", {"queues": 4}, pairs=4)
    attach("vm2", {"queues": 2}, pairs=2)
    assert [w["queues"] for w in switch.status()["workers"]] == [3, 3]
    assert [w["cpu"] for w in switch.status()["workers"]] == CPUS
    assert all(len({q["worker"] for q in queues_of(switch, name)}) == 2 for name in ("vm1", "vm2"))


STAGES = ["receive", "lookup", "copy", "completion", "notification", "empty"]


def test_cycles_are_charged_to_stages_and_queues(switch, attach):
    a, b = attach("vm1", {"mac": F.mac(1)}), attach("vm2", {"mac": F.mac(2)})
    for i in range(20):
        frames = [F.numbered(F.mac(1), F.mac(2), i * 10 + k) for k in range(10)]
        a.send(frames)
        assert b.recv(10) == frames
    workers = switch.api("GET", "/v1/workers")["workers"]
    assert [(w["id"], w["cpu"]) for w in workers] == list(enumerate(CPUS))
    queues = {(q["port"], q["queue"]): q for w in workers for q in w["queues"]}
    assert queues.keys() == {("vm1", 0), ("vm2", 0)}
    mine = queues["vm1", 0]
    assert mine["frames"] == 200 and 20 <= mine["busy_polls"] <= 200 and mine["polls"] >= mine["busy_polls"]
    assert queues["vm2", 0]["frames"] == queues["vm2", 0]["busy_cycles"] == 0
    busy = next(w for w in workers if w["frames"])
    assert list(busy["stages"]) == STAGES and all(busy["stages"].values())
    assert busy["frames"] == 200 and busy["busy_polls"] == mine["busy_polls"] and busy["empty_polls"] > 0
    assert mine["busy_cycles"] == sum(busy["stages"][s] for s in STAGES[:5])
    for w in workers:  # all its time is accounted for
        spent_s = (sum(w["stages"].values()) + w["asleep_cycles"]) / w["hz"]
        assert spent_s < switch.status()["uptime_s"] + 1 and w["cpu_s"] < spent_s + 0.1


@pytest.mark.parametrize("mergeable", [True, False], ids=["mergeable", "whole"])
def test_many_send_to_one(switch, attach, mergeable):
    """Nothing lost, doubled or torn; each sender's frames in order."""
    hub = attach("hub", {"mac": HUB, "queues": 2}, pairs=2, size=1024, mergeable=mergeable)
    senders = [attach(f"vm{i}", {"queues": 2}, pairs=2) for i in range(4)]
    per_sender, window = 3000, 100

    def frame_of(i, k):
        return F.frame(F.mac(i), HUB, F.noise(50 + k % 1400, k + i) + k.to_bytes(4, "big"))

    sent = {F.mac(i): [frame_of(i, k) for k in range(per_sender)] for i in range(4)}
    allowed = [threading.Semaphore(window) for _ in senders]

    def send(i):
        for k, frame in enumerate(sent[F.mac(i)]):
            allowed[i].acquire()
            senders[i].send([frame], pair=k * 2 // per_sender)

    threads = [threading.Thread(target=send, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    got = {mac: [] for mac in sent}
    for _ in range(4 * per_sender):
        frame = hub.recv()[0]
        i = frame[11]
        got[F.mac(i)].append(frame)
        allowed[i].release()
    for thread in threads:
        thread.join()
    # A sender changes its queue once, half way: around that moment order between its two queues is anybody's guess.
    for mac, frames in got.items():
        assert sorted(frames) == sorted(sent[mac])
        half = per_sender // 2
        first, second = set(sent[mac][:half]), set(sent[mac][half:])
        assert [f for f in frames if f in first] == sent[mac][:half]
        assert [f for f in frames if f in second] == sent[mac][half:]
    assert switch.drops("hub") == {}


def test_everybody_floods_everybody(switch, attach):
    guests = [attach(f"vm{i}", size=512) for i in range(5)]
    for round in range(30):
        numbers = range(round * 10, round * 10 + 10)
        frames = {i: [F.numbered(F.mac(i), F.BROADCAST, n, 60 + 100 * i) for n in numbers] for i in range(5)}
        for i, guest in enumerate(guests):
            guest.send(frames[i])
        for i, guest in enumerate(guests):
            got = guest.recv(40)
            for j in set(range(5)) - {i}:
                assert [f for f in got if f[11] == j] == frames[j]


def test_the_kernels_ports_under_load_from_all_sides(switch, attach, netns):
    """TCP between a tap and a veth in both directions, guests that talk beside it and flood now and then."""
    inside, inner, outer = netns(), netns(), netns()
    switch.add("tap", kind="tap", ifname="tap", netns=inside.name)
    inside.up("tap", "10.3.0.1/24")
    inner.veth("p0", "eth0", outer)
    inner.up("p0")
    outer.up("eth0", "10.3.0.2/24")
    switch.add("wire", kind="packet", ifname="p0", netns=inner.name)
    switch.wait_state("wire", "up")
    traffic = Traffic(attach("a"), attach("b"), F.mac(1), F.mac(2))
    c = attach("c")
    with ThreadPoolExecutor() as beside:
        other_way = beside.submit(bulk, outer, inside, "10.3.0.1", 10 << 20)
        c.send([F.sized(F.mac(3), F.BROADCAST, 1000)] * 50)
        bulk(inside, outer, "10.3.0.2", 20 << 20, port=5011)
        other_way.result(60)
    traffic.flows_on(10)
    traffic.stop()


def test_ports_come_and_go_between_busy_workers(switch, attach):
    """Rings, ports and memory are taken away while both workers use them."""
    a, b = attach("a"), attach("b")
    traffic = Traffic(a, b, F.mac(1), F.mac(2), pause_s=0)
    end_s, lives = time.monotonic() + 4, 0
    while time.monotonic() < end_s:
        with contextlib.ExitStack() as stack:
            # in a VLAN of their own: their floods would be too much for neighbours that are slow to read
            c = stack.enter_context(Guest(switch.add("c", vlan=20)["socket"], size=64).up())
            d = stack.enter_context(Guest(switch.add("d", vlan=20)["socket"], size=64).up())
            for _ in range(1 + lives % 3):
                c.send([F.numbered(F.mac(3), F.mac(4), i) for i in range(20)])
                d.send([F.numbered(F.mac(4), F.mac(3), i) for i in range(20)])
            (c if lives % 2 else d).stop_ring(lives % 4 // 2)
            if lives % 3 == 0:
                switch.delete("c")
            elif lives % 3 == 1:
                c.close()
                wait_until(lambda: switch.port("c")["state"] == "waiting", "the end of c to be noticed")
            for name in ("c", "d"):
                if name == "d" or lives % 3:
                    switch.delete(name)
        lives += 1
    traffic.stop()
    assert lives > 5 and traffic.bursts > 20


def test_workers_come_and_go_and_nothing_is_lost(switch, attach):
    """Each queue moves many times under traffic; Traffic sees each frame, in order."""
    pairs = [(attach(f"a{i}"), attach(f"b{i}"), F.mac(2 * i), F.mac(2 * i + 1)) for i in range(3)]
    traffics = [Traffic(*pair, pause_s=0) for pair in pairs]
    for n in [1, 4, 2, 3, 1, 2] * 5:
        switch.cli("switch", "set", f"workers={n}")
        workers = switch.api("GET", "/v1/workers")["workers"]
        assert len(workers) == n and sum(len(w["queues"]) for w in workers) == 6
        assert all(6 // n <= len(w["queues"]) <= 6 // n + 1 for w in workers)
        for traffic in traffics:
            traffic.flows_on(1)
    for traffic in traffics:
        traffic.stop()
    assert all(switch.drops(f"{end}{i}") == {} for end in "ab" for i in range(3))
    sent = sum(switch.counters(f"{end}{i}")["rx_frames"] for end in "ab" for i in range(3))
    assert sent == sum(t.bursts for t in traffics) * 2 * BURST


def test_busy_queues_part_company(switch, attach):
    """Two that flood begin on one worker, while the other has little to do."""

    def worker_of(name):
        return queues_of(switch, name)[0]["worker"]

    loud1, quiet1 = attach("loud1", size=1024), attach("quiet1", {"vlan": 10})
    loud2, quiet2 = attach("loud2", size=1024), attach("quiet2", {"vlan": 10})
    assert worker_of("loud1") == worker_of("loud2") != worker_of("quiet1") == worker_of("quiet2")
    traffic = Traffic(quiet1, quiet2, F.mac(1), F.mac(2))
    flood = Flood([loud1, loud2], F.sized(F.mac(3), F.BROADCAST, 1000))
    try:
        wait_until(lambda: worker_of("loud1") != worker_of("loud2"), "one of the queues to move", 60)
        traffic.flows_on()
    finally:
        flood.stop()
    traffic.stop()
    assert switch.api("GET", "/v1/workers")["queue_moves"] >= 1
    assert "flue_queue_moves_total 0" not in switch.metrics()


def test_a_flood_takes_no_more_than_its_turn(start_flued):
    """One worker, one guest that floods, two that talk: all of theirs comes, and all queues are polled as often."""
    switch = start_flued({"workers": {"n": 1, "spin_us": 1000000, "gather_us": 0}})
    with contextlib.ExitStack() as stack:
        ports = [switch.add("a"), switch.add("b"), switch.add("c", vlan=20)]
        a, b, c = (stack.enter_context(Guest(port["socket"]).up()) for port in ports)
        traffic = Traffic(a, b, F.mac(1), F.mac(2))
        traffic.flows_on()
        flood = Flood([c], F.sized(F.mac(3), F.mac(4), 60))
        before = {name: queues_of(switch, name)[0] for name in "abc"}
        traffic.flows_on(20)
        after = {name: queues_of(switch, name)[0] for name in "abc"}
        flood.stop()
        traffic.stop()
    took = {name: {k: after[name][k] - before[name][k] for k in ("polls", "busy_polls", "frames")} for name in "abc"}
    assert took["a"]["frames"] >= 20 * BURST and took["c"]["frames"] > 10 * took["a"]["frames"]
    polls = [took[name]["polls"] for name in "abc"]
    assert max(polls) < 1.2 * min(polls) + 100, took
