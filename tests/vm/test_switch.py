# SPDX-License-Identifier: Apache-2.0
"""Real guests, with stock kernels, through a running flued."""

import re
import subprocess
import time
from pathlib import Path

import pytest
import real_guest
from flued import Flued
from netns import Netns, run
from real_guest import VhostUser, copy_file
from wait import wait_until

MAC = ["52:54:00:00:00:01", "52:54:00:00:00:02"]
ADDRESS = ["10.0.0.1", "10.0.0.2"]
TOP = Path(__file__).resolve().parents[2]


@pytest.fixture
def switch():
    with Flued() as flued:
        yield flued


def boot_pair(switch, boot, *, role="listen", pairs=1, mtu=None, cpus=1):
    """Two guests, vm1 and vm2, on two ports of these names, with addresses."""
    guests = []
    for i, name in enumerate(("vm1", "vm2")):
        conf = {"mac": MAC[i], "role": role, "queues": pairs, **({"mtu": mtu} if mtu else {})}
        path = switch.add(name, **conf)["socket"]
        nic = VhostUser(path, MAC[i], server=role == "connect", queue_pairs=pairs, mtu=mtu)
        guests.append(boot(name, [nic], cpus=cpus))
    for i, guest in enumerate(guests):
        set_up(guest, i)
    return guests


def set_up(guest, i):
    guest.ok(f"ip addr add {ADDRESS[i]}/24 dev eth0; ip link set eth0 up")


def ping(guest, address, count=3, more=""):
    return guest.ok(f"ping -c {count} -W 5 {more} {address}")


def link_local(guest):
    text = guest.ok("until ip -6 addr show dev eth0 scope link | grep -q 'inet6 .*scope link *$'; do usleep 50000; done;"
                    "ip -6 addr show dev eth0 scope link")  # fmt: skip
    return re.search(r"inet6 (fe80:[0-9a-f:]+)/", text)[1]


def test_guests_ping_each_other_over_ipv4_and_ipv6(switch, boot):
    vm1, vm2 = boot_pair(switch, boot)
    ping(vm1, ADDRESS[1])
    ping(vm2, ADDRESS[0])
    vm1.ok(f"ping -6 -c 3 -W 5 -I eth0 {link_local(vm2)}")
    assert {switch.port(name)["state"] for name in ("vm1", "vm2")} == {"up"}
    assert not set(switch.drops("vm1")) - {"no_destination", "port_down"}, "only what was sent before the other was there"


def test_a_file_arrives_whole(switch, boot):
    vm1, vm2 = boot_pair(switch, boot)
    done = copy_file(vm1, vm2, ADDRESS[1], mebibytes=64)
    assert done.sent_sha256 == done.received_sha256
    assert switch.counters("vm1")["rx_bytes"] > 64 << 20
    assert switch.counters("vm2")["tx_bytes"] > 64 << 20


def queue_frames(guest, direction):
    """Frames of each queue, as the guest's driver counts them."""
    text = guest.ok("ethtool -S eth0")
    return [int(n) for n in re.findall(rf"\b{direction}_queue_\d+_packets: (\d+)", text)]


def test_traffic_uses_four_queue_pairs(switch, boot):
    vm1, vm2 = boot_pair(switch, boot, pairs=4, cpus=4)
    vm1.ok("ethtool -L eth0 combined 4")
    vm2.ok("ethtool -L eth0 combined 4")
    wait_until(lambda: switch.port("vm2")["detail"]["queue_pairs"] == "4 of 4", "four pairs in use")
    before = queue_frames(vm2, "rx")
    vm2.ok("echo hello >/tmp/hello; httpd -p 8000 -h /tmp")
    # Each connection comes from another port, and so is another flow.
    vm1.ok(f"for i in $(seq 40); do wget -q -O - http://{ADDRESS[1]}:8000/hello >/dev/null || exit 1; done")
    grown = [now - then for now, then in zip(queue_frames(vm2, "rx"), before, strict=True)]
    assert len(grown) == 4 and min(grown) > 0, f"frames by receive queue: {grown}"
    done = copy_file(vm1, vm2, ADDRESS[1], mebibytes=8)
    assert done.sent_sha256 == done.received_sha256


def test_a_guest_may_use_fewer_pairs_than_it_has(switch, boot):
    vm1, vm2 = boot_pair(switch, boot, pairs=4, cpus=4)
    for n in (2, 1, 3):
        vm1.ok(f"ethtool -L eth0 combined {n}")
        wait_until(lambda n=n: switch.port("vm1")["detail"]["queue_pairs"] == f"{n} of 4", f"{n} pairs in use")
        ping(vm2, ADDRESS[0])


def test_jumbo_frames_pass_where_both_ports_carry_them(switch, boot):
    vm1, vm2 = boot_pair(switch, boot, mtu=9000)
    assert "mtu 9000" in vm1.ok("ip link show eth0"), "the guest took the MTU from the switch"
    ping(vm1, ADDRESS[1], more="-s 8972")
    assert switch.counters("vm2")["tx_bytes"] > 3 * 9000
    done = copy_file(vm1, vm2, ADDRESS[1], mebibytes=16)
    assert done.sent_sha256 == done.received_sha256


@pytest.mark.parametrize("how", ["reboot", "reset"])
def test_a_guest_that_starts_anew_is_back_on_the_network(switch, boot, how):
    vm1, vm2 = boot_pair(switch, boot)
    ping(vm1, ADDRESS[1])
    busy = vm2.start(f"ping -i 0.05 {ADDRESS[0]}")
    getattr(vm1, how)()
    set_up(vm1, 0)
    ping(vm1, ADDRESS[1])
    ping(vm2, ADDRESS[0])
    assert busy is not None and switch.port("vm1")["state"] == "up"
    assert switch.port("vm1")["reason"] == "", "a restart is no fault"


def test_a_killed_guest_frees_its_port_and_harms_no_other(switch, boot):
    vm1, vm2 = boot_pair(switch, boot)
    third = boot("vm3", [VhostUser(switch.add("vm3", mac="52:54:00:00:00:03")["socket"], "52:54:00:00:00:03")])
    third.ok("ip addr add 10.0.0.3/24 dev eth0; ip link set eth0 up")
    ping(vm1, "10.0.0.3")
    sending = vm1.start(f"ping -q -i 0.05 -c 100 {ADDRESS[1]}; ping -q -i 0.05 -c 60 -W 2 10.0.0.3")
    time.sleep(0.5)
    vm2.kill()
    switch.wait_state("vm2", "waiting")
    status, output = sending.wait()
    assert status == 0 and re.search(r"60 packets transmitted, 60 packets received", output), output
    again = boot("vm2-again", [VhostUser(switch.socket_of("vm2"), MAC[1])])
    set_up(again, 1)
    ping(vm1, ADDRESS[1])


def frames_pass(switch):
    return all(switch.counters(name)[c] > 3 for name in ("vm1", "vm2") for c in ("rx_frames", "tx_frames"))


@pytest.mark.parametrize("rings", ["split", "packed"])
@pytest.mark.parametrize("role, limit_s", [("connect", 1.0), ("listen", 2.5)])
def test_traffic_goes_on_after_a_restart_of_flued(boot, role, limit_s, rings):
    """With flued connecting within a second; QEMU retries only once in a whole second (and the first is up to two).

    A guest sees its link go down and up, and Linux then forgets its neighbours; if the first ARP request or its answer
    comes while the other guest still has no carrier, it is repeated after a second, whatever the switch does. So the
    measured guests know each other's addresses for good, and that others find each other again is checked apart.
    """
    conf = {"ports": [{"name": f"vm{i + 1}", "mac": MAC[i], "role": role} for i in range(2)]}
    with Flued(conf) as switch:
        paths = [switch.socket_of(f"vm{i + 1}") for i in range(2)]
        how = {"server": role == "connect", "packed": rings == "packed"}
        guests = [boot(f"vm{i + 1}", [VhostUser(paths[i], MAC[i], **how)]) for i in range(2)]
        for i, guest in enumerate(guests):
            set_up(guest, i)
        ping(guests[0], ADDRESS[1])
        packed = int(switch.port("vm1")["detail"]["features"], 0) >> 34 & 1
        assert packed == (rings == "packed")
        for i, guest in enumerate(guests):
            guest.ok(f"arp -s {ADDRESS[1 - i]} {MAC[1 - i]}")
        before = switch.counters("vm1")["rx_frames"]
        guests[0].start(f"ping -q -i 0.02 {ADDRESS[1]}", 300)  # traffic that never stops
        wait_until(lambda: switch.counters("vm1")["rx_frames"] > before + 10, "traffic")
        for _ in range(3):
            switch.restart()
            began = time.monotonic()
            wait_until(lambda: frames_pass(switch), "frames in both directions")
            assert time.monotonic() - began < limit_s
            ping(guests[1], ADDRESS[0])
        switch.kill9()
        switch.start()
        wait_until(lambda: frames_pass(switch), "frames in both directions after kill -9")
        for i, guest in enumerate(guests):
            guest.ok(f"arp -d {ADDRESS[1 - i]}")
        ping(guests[0], ADDRESS[1])


def test_guests_reach_namespaces_through_a_tap_and_a_packet_port(switch, boot):
    with Netns() as blue, Netns() as red:
        run("ip", "link", "add", "flue-up0", "type", "veth", "peer", "name", "eth0", "netns", red.name)
        run("ip", "link", "set", "flue-up0", "up")
        red.up("eth0", "10.0.0.20/24")
        switch.add("uplink", kind="packet", ifname="flue-up0")
        switch.add("blue", kind="tap", ifname="eth0", netns=blue.name)
        blue.up("eth0", "10.0.0.10/24")
        vm1, _ = boot_pair(switch, boot)
        ping(vm1, "10.0.0.10")
        ping(vm1, "10.0.0.20")
        # The namespaces' kernels hand over large segments with the checksum left to do: they arrive right all the same.
        for namespace, port in ((red, 5001), (blue, 5002)):
            digest = "dd if=/dev/zero bs=1M count=8 2>/dev/null | tr '\\0' 'x'"
            receiving = vm1.start(f"mkfifo /tmp/q{port}; nc -l -p {port} <>/tmp/q{port} | sha256sum", 60)
            vm1.ok(f"until netstat -ltn | grep -q ':{port} '; do usleep 20000; done")
            namespace.exec("sh", "-c", f"{digest} | busybox nc {ADDRESS[0]} {port}")
            expected = subprocess.run(["sh", "-c", f"{digest} | sha256sum"], check=True, capture_output=True, text=True)
            assert receiving.wait() == (0, expected.stdout)


def test_newer_qemu_works_too(switch, boot, monkeypatch):
    newer = subprocess.run([TOP / "devtools/qemu-newer"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.setattr(real_guest, "QEMU", newer)
    assert real_guest.qemu_version() >= (9, 0)
    vm1, vm2 = boot_pair(switch, boot, pairs=2, cpus=2)
    vm1.ok("ethtool -L eth0 combined 2")
    ping(vm1, ADDRESS[1])
    done = copy_file(vm2, vm1, ADDRESS[0], mebibytes=8)
    assert done.sent_sha256 == done.received_sha256
    vm1.reboot()
    set_up(vm1, 0)
    ping(vm2, ADDRESS[0])
