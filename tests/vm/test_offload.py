# SPDX-License-Identifier: Apache-2.0
"""Jumbo frames and offloads between real guests and kernels: every pair, MTU, protocol, with and without offloads and tags.

One switch, three guests and two namespaces for the whole file. The guests' ports are trunks with a native VLAN, so each
guest has an untagged interface and a tagged one; a namespace has a tap port in either VLAN. MTU and offloads are changed
while all of it runs. IPv6 does not exist below an MTU of 1280 (RFC 8200 5), so those cells are not in the matrix.
"""

import itertools
import json
import re
import subprocess

import pytest
from flued import BUILD, Flued
from netns import Netns
from real_guest import Guest, VhostUser

MTU_MAX = 9001
MTUS = (512, 1500, 2048, 2049, 9000, 9001)
TAG = 10
XFER_PORT, IPERF_PORT = 6000, 5201
BYTES = 384 << 10
IPERF_BYTES = "3M"
IP6_MTU_MIN = 1280
# vm1 receives into mergeable buffers and vm2 into buffers for whole super-frames; vm3 does that in packed rings.
NICS = {"vm1": {}, "vm2": {"extra": {"mrg_rxbuf": "off"}}, "vm3": {"packed": True, "extra": {"mrg_rxbuf": "off"}}}
PAIRS = [("vm1", "vm2"), ("vm3", "vm1"), ("vm1", "ns1"), ("ns1", "vm2"), ("ns1", "vm3"), ("ns1", "ns2")]
HOSTS = {"vm1": 1, "vm2": 2, "vm3": 3, "ns1": 4, "ns2": 5}
OFFLOADS = "tx sg tso gso gro"
XFER = BUILD / "tests/vm/xfer"
PING = "/usr/bin/ping -n"  # busybox's does not know -M
FRESH = itertools.count(100)


def address(host, family, tagged):
    """Each VLAN has a network of its own."""
    net = TAG if tagged else 1
    return f"10.{net}.0.{HOSTS[host]}" if family == 4 else f"fd00:{net}::{HOSTS[host]}"


def addresses(host, tagged, mtu):
    families = (4, 6) if mtu >= IP6_MTU_MIN else (4,)
    return [f"{address(host, family, tagged)}/{24 if family == 4 else 64}" for family in families]


class VM:
    """A guest on a trunk: eth0 is its native VLAN, eth0.10 the tagged one."""

    def __init__(self, name, switch, directory):
        mac = f"52:54:00:00:00:0{HOSTS[name]}"
        path = switch.add(name, mac=mac, trunk=f"1,{TAG}", native=1, mtu=MTU_MAX)["socket"]
        self.name, self.ports = name, {False: name, True: name}
        self.guest = Guest(name, [VhostUser(path, mac, mtu=MTU_MAX, **NICS[name])], log_directory=str(directory))

    def begin(self):
        self.guest.ok(f"modprobe 8021q; ip link add link eth0 name eth0.{TAG} type vlan id {TAG}")
        self.guest.put("/bin/xfer", XFER.read_bytes())
        self.guest.ok("chmod +x /bin/xfer")
        for command in serving("/bin/xfer"):
            self.guest.start(command, 3600)

    def run(self, command, limit=60):
        return self.guest.run(command, limit)

    def set(self, mtu, offloads):
        lines = ["set -e", *ethtool("eth0", offloads), f"ip link set eth0 mtu {mtu}", "ip link set eth0 up"]
        lines += [f"ip link set eth0.{TAG} up", f"ip link set eth0.{TAG} mtu {mtu}", *ethtool(f"eth0.{TAG}", offloads, True)]
        for tagged, device in ((False, "eth0"), (True, f"eth0.{TAG}")):
            lines += [f"ip addr replace {a} dev {device}" for a in addresses(self.name, tagged, mtu)]
        self.guest.ok("\n".join(lines))

    def also(self, tagged, more):
        self.guest.ok(f"ip addr add {more} dev {f'eth0.{TAG}' if tagged else 'eth0'}")

    def end(self):
        self.guest.close()


class Namespace:
    """The kernel's own stack, with a tap port in each VLAN."""

    def __init__(self, name, switch):
        self.name, self.ns = name, Netns()
        self.ports = {False: f"{name}u", True: f"{name}t"}
        self.servers = []
        for tagged, port in self.ports.items():
            switch.add(port, kind="tap", ifname=port, netns=self.ns.name, mtu=MTU_MAX, vlan=TAG if tagged else 1)

    def begin(self):
        for command in serving(str(XFER)):
            arguments = ["ip", "netns", "exec", self.ns.name, "sh", "-c", f"exec {command}"]
            self.servers.append(subprocess.Popen(arguments, stdout=subprocess.DEVNULL))  # pylint: disable=consider-using-with

    def run(self, command, limit=60):
        done = self.ns.exec("timeout", str(limit), "sh", "-c", f"PATH=$PATH:{XFER.parent}; {command}", check=False)
        return done.returncode, done.stdout + done.stderr

    def set(self, mtu, offloads):
        lines = ["set -e"]
        for tagged, device in self.ports.items():
            lines += [f"ip link set {device} up", *ethtool(device, offloads)]
            lines += [f"ip addr replace {a} dev {device} {'nodad' if ':' in a else ''}" for a in addresses(self.name, tagged, mtu)]
        status, output = self.run("\n".join(lines))
        assert status == 0, output

    def also(self, tagged, more):
        self.ns.ip("addr", "add", more, "dev", self.ports[tagged], *(["nodad"] if ":" in more else []))

    def end(self):
        for server in self.servers:
            server.kill()
            server.wait()
        self.ns.__exit__()


def serving(xfer):
    return [f"{xfer} serve {XFER_PORT}", f"iperf3 -s -p {IPERF_PORT}"]


def ethtool(device, offloads, may_fail=False):
    """All at once: what depends on each other is then no matter of order."""
    state = "on" if offloads else "off"
    words = " ".join(f"{name} {state}" for name in OFFLOADS.split())
    return [f"ethtool -K {device} {words} >/dev/null 2>&1{' || true' if may_fail else ''}"]


class Network:
    def __init__(self, directory):
        self.switch = Flued()
        self.hosts = {name: VM(name, self.switch, directory) for name in NICS}
        self.hosts |= {name: Namespace(name, self.switch) for name in ("ns1", "ns2")}
        self.ports = [p["name"] for p in self.switch.api("GET", "/v1/ports")["ports"]]
        for host in self.hosts.values():
            host.begin()
        self.now = None

    def set(self, mtu, offloads):
        if self.now != (mtu, offloads):
            for port in self.ports:
                self.switch.set(port, mtu=mtu)
            for host in self.hosts.values():
                host.set(mtu, offloads)
            self.now = mtu, offloads

    def faults(self):
        """Drops that no test may cause which does not want to."""
        drops = {port: self.switch.drops(port) for port in self.ports}
        return {port: {r: d[r] for r in ("bad_offload", "too_big", "broken") if r in d} for port, d in drops.items()}

    def end(self):
        for host in self.hosts.values():
            host.end()
        self.switch.close()


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    made = Network(tmp_path_factory.mktemp("guests"))
    yield made
    made.end()


def average_length(switch, port, run, way="rx"):
    """Of the frames the switch received from @port, or sent to it, while @run."""
    before = switch.counters(port)
    run()
    after = switch.counters(port)
    return (after[f"{way}_bytes"] - before[f"{way}_bytes"]) / max(1, after[f"{way}_frames"] - before[f"{way}_frames"])


def must(host, command):
    status, output = host.run(command)
    assert status == 0, f"{host.name}: {command}: {status}\n{output}"
    return output


def datagram_sizes(mtu, family):
    """The longest that is not fragmented, one byte more, and some."""
    whole = mtu - (20 if family == 4 else 40) - 8
    return f"1 {whole} {whole + 1} {min(3 * mtu, 20000)}"


CELLS = [
    pytest.param(mtu, offloads, pair, id=f"{mtu}-{'on' if offloads else 'off'}-{'-'.join(pair)}")
    for mtu, offloads, pair in itertools.product(MTUS, (True, False), PAIRS)
]


@pytest.mark.parametrize("mtu, offloads, pair", CELLS)
def test_everything_arrives(network, mtu, offloads, pair):
    """TCP and datagrams come back unchanged, iperf3 flows; super-frames pass if, and only if, the sender makes them."""
    network.set(mtu, offloads)
    client, server = (network.hosts[name] for name in pair)
    before = network.faults()
    for family, tagged in itertools.product((4, 6) if mtu >= IP6_MTU_MIN else (4,), (False, True)):
        to = address(server.name, family, tagged)
        must(client, f"xfer {to} {XFER_PORT} {BYTES} {datagram_sizes(mtu, family)}")
        average = average_length(
            network.switch, client.ports[tagged], lambda to=to: must(client, f"iperf3 -c {to} -p {IPERF_PORT} -n {IPERF_BYTES}")
        )
        if offloads:
            assert average > 1.5 * mtu, f"frames of {average:.0f} bytes on average: no super-frames"
        else:
            assert average <= mtu + 18, f"frames of {average:.0f} bytes on average: super-frames, with offloads off"
    assert network.faults() == before


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_datagrams_flow(network, pair):
    network.set(1500, True)
    client, server = (network.hosts[name] for name in pair)
    for tagged in (False, True):
        to = address(server.name, 4, tagged)
        said = json.loads(must(client, f"iperf3 -u -c {to} -p {IPERF_PORT} -b 10M -n 500K -J"))
        assert said["end"]["sum"]["lost_percent"] < 20


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("tagged", [False, True], ids=["untagged", "tagged"])
def test_jumbo_pings_that_must_not_be_fragmented(network, family, tagged):
    network.set(9000, True)
    size = 9000 - (20 if family == 4 else 40) - 8
    for pair in PAIRS:
        must(network.hosts[pair[0]], f"{PING} -c 2 -i 0.2 -M do -s {size} {address(pair[1], family, tagged)}")
        status, output = network.hosts[pair[0]].run(f"{PING} -c 1 -W 1 -M do -s {size + 1} {address(pair[1], family, tagged)}")
        assert status and re.search("[Mm]essage too long", output), output


def test_a_namespaces_segments_are_merged_for_a_guest(network):
    """Its kernel cuts, as hardware at the other end of a wire would; turned off, each segment comes by itself."""
    network.set(1500, True)
    sender, port = network.hosts["ns1"], network.hosts["ns1"].ports[False]
    must(sender, "; ".join(ethtool(port, False)))
    flow = f"iperf3 -c {address('vm1', 4, False)} -p {IPERF_PORT} -n {IPERF_BYTES}"
    try:
        assert average_length(network.switch, port, lambda: must(sender, flow)) <= 1518, "the kernel cuts"
        assert average_length(network.switch, "vm1", lambda: must(sender, flow), "tx") > 2000
        network.switch.set(port, coalesce=False)
        assert average_length(network.switch, "vm1", lambda: must(sender, flow), "tx") <= 1518
    finally:
        network.switch.set(port, coalesce=True)
        network.now = None


# -- a receiver with a smaller MTU than its neighbours --


@pytest.fixture
def narrow(network):
    """narrow("vm2", tagged, family): its port's MTU is 1500 during the test; an address that nobody knows a path MTU of."""
    changed = []

    def make(name, tagged, family):
        port = network.hosts[name].ports[tagged]
        changed.append(port)
        network.switch.set(port, mtu=1500)
        number = next(FRESH)
        net = TAG if tagged else 1
        to, length = (f"10.{net}.0.{number}", 24) if family == 4 else (f"fd00:{net}::{number}", 64)
        network.hosts[name].also(tagged, f"{to}/{length}")
        return to

    yield make
    for port in changed:
        network.switch.set(port, mtu=network.now[0])


@pytest.mark.parametrize("pair", [("vm1", "vm2"), ("vm3", "ns2"), ("ns1", "vm1")], ids="-".join)
@pytest.mark.parametrize("offloads", [True, False], ids=["on", "off"])
@pytest.mark.parametrize("tagged", [False, True], ids=["untagged", "tagged"])
@pytest.mark.parametrize("family", [4, 6])
def test_who_sends_too_long_frames_is_told(network, narrow, pair, family, tagged, offloads):
    """The receiver's own MTU stays what it was, so nothing but the answer of the switch tells the sender."""
    network.set(9000, offloads)
    client, to = network.hosts[pair[0]], narrow(pair[1], tagged, family)
    status, output = client.run(f"{PING} -c 3 -i 0.3 -M do -s 8000 {to}")
    assert status and re.search(r"mtu ?[=:] ?1500", output), output
    must(client, f"xfer {to} {XFER_PORT} {BYTES} 1 {1500 - (28 if family == 4 else 48)} 8000")
    to = narrow(pair[1], tagged, family)
    must(client, f"xfer {to} {XFER_PORT} {BYTES}")


@pytest.mark.parametrize("family", [4, 6])
def test_nobody_is_told_if_that_is_not_wanted(network, narrow, family):
    network.set(9000, False)
    network.switch.set("vm1", too_big_reply=False)
    try:
        to = narrow("vm2", False, family)
        status, output = network.hosts["vm1"].run(f"{PING} -c 3 -i 0.3 -W 1 -M do -s 8000 {to}")
        assert status and "100% packet loss" in output and "mtu" not in output, output
        assert network.switch.drops("vm2")["too_big"] >= 3
    finally:
        network.switch.set("vm1", too_big_reply=True)
