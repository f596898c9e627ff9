# SPDX-License-Identifier: Apache-2.0
"""flue: what each command prints, in words and as JSON; exit statuses; what it says when things go wrong."""

import fcntl
import json
import os
import pty
import re
import resource
import select
import shlex
import signal
import socket
import struct
import subprocess
import termios
import time
import xml.etree.ElementTree as ET

import pytest

import vhost_user as vu
from flued import BUILD
from wait import wait_until

FLUE = str(BUILD / "cli/flue")
MAC = "52:54:00:00:00:01"


def rows(text):
    """A table's rows as dicts; columns are found by their headings, which have no spaces."""
    heading, *lines = text.strip("\n").splitlines()
    names = heading.split()
    return [dict(zip(names, line.split(None, len(names) - 1))) for line in lines]


def columns(text):
    return text.splitlines()[0].split()


def as_json(switch, *args):
    return json.loads(switch.cli("--json", *args).stdout)


def flue(*args, **kwargs):
    return subprocess.run([FLUE, *args], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, **kwargs)


# -- ports --


def test_a_port_is_added_shown_changed_and_removed(switch):
    switch.cli("port", "add", "vm1", "vlan=10", f"mac={MAC}", "mtu=9000", "spoof_guard=off", "queues=2")
    port = switch.port("vm1")
    assert (port["vlan"], port["mac"], port["mtu"], port["spoof_guard"], port["queues"]) == (10, MAC, 9000, False, 2)
    switch.cli("port", "set", "vm1", "trunk=10,20-30", "native=10", "spoof_guard=true")
    assert switch.port("vm1")["trunk"] == "10,20-30" and switch.port("vm1")["spoof_guard"]
    switch.cli("port", "set", "vm1", "mac=none", "native=none")
    assert switch.port("vm1")["mac"] is None and "native" not in switch.port("vm1")
    switch.cli("port", "del", "vm1")
    assert switch.api("GET", "/v1/ports") == {"ports": []}


def test_all_ports_are_a_table(switch):
    switch.cli("port", "add", "vm1", f"mac={MAC}")
    switch.cli("port", "add", "t0", "kind=tap", "ifname=flue-t0", "trunk=5-6")
    text = switch.cli("port", "show").stdout
    assert columns(text) == ["PORT", "KIND", "STATE", "MAC", "VLAN", "MTU", "RX-FRAMES", "TX-FRAMES", "DROPPED", "WHERE"]
    first, second = text.splitlines()[1:]
    assert first.split() == ["vm1", "guest", "waiting", MAC, "1", "1500", "0", "0", "0", switch.socket_of("vm1")]
    assert second.split()[:2] == ["t0", "tap"] and "5-6" in second.split() and second.split()[-1] == "flue-t0"


def test_one_port_is_told_in_full(switch):
    switch.cli("port", "add", "vm1")
    told = dict(line.split(None, 1) for line in switch.cli("port", "show", "vm1").stdout.splitlines())
    port = switch.port("vm1")
    for key in ("name", "kind", "state", "socket", "role", "front_end"):
        assert told[key] == port[key]
    assert told["mtu"] == "1500" and told["rx_frames"] == "0" and told["guest_mac"] == port["detail"]["guest_mac"]


def test_flags_are_on_or_off(switch):
    switch.cli("port", "add", "t0", "kind=tap", "ifname=flue-t0", "coalesce=off", "too_big_reply=false", "offloads_off=tso6,uso")
    port = switch.port("t0")
    assert (port["coalesce"], port["too_big_reply"], port["offloads_off"]) == (False, False, "tso6 uso")
    switch.cli("port", "set", "t0", "coalesce=on", "too_big_reply=true")
    assert (switch.port("t0")["coalesce"], switch.port("t0")["too_big_reply"]) == (True, True)


def test_the_switch_s_settings_are_shown_and_changed(switch):
    switch.cli("switch", "set", "mtu=9000", "gather_us=7")
    lines = switch.cli("switch", "show").stdout.splitlines()
    assert lines[0] == "switch default" and {"mtu=9000", "ageing_s=300", "gather_us=7"} < set(lines)
    assert as_json(switch, "switch", "show") == switch.api("GET", "/v1/switch")
    switch.cli("switch", "set", *lines[1:])  # what it prints it takes
    switch.cli("port", "add", "vm1")
    assert switch.port("vm1")["mtu"] == 9000


def test_json_is_the_api_s_own(switch):
    made = as_json(switch, "port", "add", "vm1", "vlan=7")
    assert made == switch.port("vm1")
    assert as_json(switch, "port", "show") == switch.api("GET", "/v1/ports")
    assert as_json(switch, "port", "show", "vm1") == switch.port("vm1")
    assert as_json(switch, "port", "set", "vm1", "mtu=2000") == switch.port("vm1")
    assert as_json(switch, "fdb", "show") == switch.api("GET", "/v1/fdb")
    assert as_json(switch, "stats") == switch.api("GET", "/v1/ports")
    assert as_json(switch, "stats", "vm1") == switch.port("vm1")
    assert as_json(switch, "stats", "--cycles").keys() == {"workers", "queue_moves"}
    assert as_json(switch, "status").keys() == switch.status().keys()
    assert json.loads(switch.cli("port", "show", "--json").stdout) == switch.api("GET", "/v1/ports")


@pytest.mark.parametrize(
    "args, says",
    [
        (["add", "vm2", "mtu=5"], "flue: vm2: mtu: 5 is not an MTU: write a number from 68 to 65535\n"),
        (["add", "vm2", "kind=tap", "mtu=9217"], "flue: vm2: mtu: 9217 is not an MTU for a port of kind tap: write a number from 68 to 9216: an interface carries no more\n"),
        (["add", "vm2", "mtu=big"], "flue: vm2: mtu: must be a whole number: write digits, without quotes\n"),
        (["add", "vm1"], "flue: vm1: there is a port vm1 already: give each port a name of its own\n"),
        (["add", "vm2", f"mac={MAC}"], f"flue: vm2: mac: {MAC} belongs to port vm1: give each port a MAC of its own\n"),
        (["set", "vm1", "queues=1"], "flue: vm1: queues: cannot change while the port exists: delete the port and add it again\n"),
        (["set", "vm9", "mtu=1500"], "flue: vm9: there is no port 'vm9': `flue port show` lists the ports that are\n"),
        (["del", "vm9"], "flue: vm9: there is no port 'vm9': `flue port show` lists the ports that are\n"),
        (["show", "a/b"], None),
        (["show", "?"], None),
        (["show", "vm1#x"], None),
    ],
)
def test_a_refusal_names_port_key_reason_and_remedy(switch, args, says):
    switch.cli("port", "add", "vm1", f"mac={MAC}")
    done = switch.cli("port", *args, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == says if says else done.stderr.startswith(f"flue: {args[1]}: there is")


def test_a_key_that_is_none_is_named_with_those_there_are(switch):
    done = switch.cli("port", "add", "vm1", "colour=red", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("flue: vm1: colour: unknown key: the keys of a port are name, kind, mac, ")


# -- the command line itself --


@pytest.mark.parametrize(
    "args",
    [
        [], ["fly"], ["port"], ["port", "fly"], ["port", "add"], ["port", "set", "vm1"], ["port", "del"], ["port", "del", "a", "b"],
        ["port", "add", "vm1", "mtu"], ["port", "add", "vm1", "=5"], ["port", "show", "a", "b"], ["fdb"], ["fdb", "drop"],
        ["stats", "a", "b"], ["stats", "--cycle"], ["switch"], ["switch", "set"], ["switch", "show", "x"], ["switch", "set", "workers"], ["top", "-x"], ["top", "-d", "0"], ["top", "-d", "soon"], ["top", "-n", "-1"], ["qemu"], ["status", "x"],
        ["doctor", "x"], ["--unknown"],
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_status_2(switch, args):
    done = switch.cli(*args, check=False)
    assert done.returncode == 2 and done.stdout == "" and done.stderr
    assert switch.status()["ports"] == 0


def test_help_and_version_need_no_flued():
    for args in (["help"], ["--help"]):
        done = flue(*args)
        assert done.returncode == 0
        for command in ("status", "port add", "port set", "port del", "port show", "fdb", "stats", "top", "qemu", "doctor"):
            assert command in done.stdout
    assert re.fullmatch(r"flue \d+\.\d+\.\d+\n", flue("--version").stdout)


def test_the_socket_comes_from_the_environment_too(switch):
    done = flue("status", env={"FLUE_API": switch.api_path})
    assert done.returncode == 0 and f"process {switch.pid}" in done.stdout


def test_a_proxy_in_the_environment_is_not_asked(switch):
    done = flue("--api", switch.api_path, "status", env={"http_proxy": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"})
    assert done.returncode == 0


def test_without_flued_it_says_what_to_do(tmp_path):
    path = str(tmp_path / "api.sock")
    done = flue("--api", path, "status")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"flue: there is no flued at {path}: start it (flued), or name its socket with --api\n"
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)  # nobody listens
    done = flue("--api", path, "status")
    assert done.returncode == 1 and "does not answer" in done.stderr


def test_somebody_else_behind_the_socket_is_no_flued(tmp_path):
    path = str(tmp_path / "api.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    for answer in (b"", b"hello\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"):
        with subprocess.Popen([FLUE, "--api", path, "status"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
            peer, _ = listener.accept()
            peer.recv(4096)
            peer.sendall(answer)
            peer.close()
            out, err = p.communicate(timeout=15)
        assert p.returncode == 1 and out == "" and err.startswith("flue: "), answer


# -- status, stats, fdb --


def test_status_names_the_switch_and_its_workers(switch):
    text = switch.cli("status").stdout
    assert text.startswith("switch default: flued ") and f"process {switch.pid}" in text
    workers = rows(text.split("\n\n")[1])
    assert [w["WORKER"] for w in workers] == [str(w["id"]) for w in switch.status()["workers"]]


def test_stats_count_and_explain_drops(switch, attach):
    vm1, vm2 = attach("vm1", {"mac": MAC}), attach("vm2")
    good = bytes.fromhex("ffffffffffff" + MAC.replace(":", "") + "88b6") + bytes(50)
    vm1.send([good, good[:6] + bytes.fromhex("525400000002") + good[12:]])
    assert vm2.recv() == [good]
    switch.wait_drops("vm1", mac_spoofed=1)
    counts, drops = switch.cli("stats").stdout.split("\n\n")
    assert [(r["PORT"], r["RX-FRAMES"], r["TX-FRAMES"], r["DROPPED"]) for r in rows(counts)] == [("vm1", "2", "0", "1"), ("vm2", "0", "1", "0")]
    assert rows(drops) == [
        {"PORT": "vm1", "DROPPED": "1", "REASON": "mac_spoofed",
         "MEANING": "rx: the source MAC is not the one configured for this port (spoof guard)"}
    ]  # fmt: skip
    assert "mac_spoofed" not in switch.cli("stats", "vm2").stdout


def test_stats_tell_what_a_frame_costs(switch, attach):
    vm1, vm2 = attach("vm1", {"mac": MAC}), attach("vm2")
    frame = bytes.fromhex("ffffffffffff" + MAC.replace(":", "") + "88b6") + bytes(50)
    vm1.send([frame])
    assert vm2.recv() == [frame]
    workers, queues = (part.split("\n", 1)[1] for part in switch.cli("stats", "--cycles").stdout.split("\n\n"))
    counted = [w for w in rows(workers) if w["FRAMES"] == "1"]
    assert len(counted) == 1 and float(counted[0]["TOTAL"]) >= float(counted[0]["COPY"]) > 0
    assert {(q["PORT"], q["FRAMES"]) for q in rows(queues)} == {("vm1", "1"), ("vm2", "0")}


def test_the_address_table_is_shown_and_flushed(switch, attach):
    vm1, _ = attach("vm1", {"vlan": 7}), attach("vm2", {"mac": MAC})
    vm1.send([bytes.fromhex("ffffffffffff" + "525400000009" + "88b6") + bytes(50)])
    wait_until(lambda: len(switch.fdb()) == 2, "an address to be learned")
    text = switch.cli("fdb", "show").stdout
    assert columns(text) == ["MAC", "VLAN", "PORT", "TYPE", "AGE-S"]
    assert sorted(line.split() for line in text.splitlines()[1:]) == sorted(
        [["52:54:00:00:00:09", "7", "vm1", "learned", "0"], [MAC, "vm2", "static"]]
    )
    assert switch.cli("fdb", "flush").stdout == "1 addresses forgotten\n"
    assert len(switch.fdb()) == 1


# -- top --


def test_top_tells_rates_once(switch, attach):
    vm1, vm2 = attach("vm1"), attach("vm2")
    frame = bytes.fromhex("ffffffffffff" + "525400000009" + "88b6") + bytes(986)
    with subprocess.Popen([FLUE, "--api", switch.api_path, "--json", "top", "-n", "1", "-d", "1"], stdout=subprocess.PIPE) as top:
        time.sleep(0.4)
        vm1.send([frame] * 100)
        assert len(vm2.recv(100)) == 100
        out, _ = top.communicate(timeout=15)
    told = json.loads(out)
    rates = {p["name"]: p for p in told["ports"]}
    seconds = told["seconds"]
    assert 0.9 < seconds < 5 and top.returncode == 0
    assert rates["vm1"]["rx_frames_per_s"] == pytest.approx(100 / seconds)
    assert rates["vm2"]["tx_bits_per_s"] == pytest.approx(100 * 1000 * 8 / seconds)
    assert rates["vm1"]["drops_per_s"] == 0 and rates["vm1"]["state"] == "up"
    assert [w["id"] for w in told["workers"]] == [w["id"] for w in switch.status()["workers"]]
    assert all(0 <= w["cpu_percent"] <= 110 for w in told["workers"])
    assert all(0 <= w["busy_percent"] <= 110 for w in told["workers"])


def test_top_prints_rounds_without_a_terminal(switch):
    switch.cli("port", "add", "vm1")
    text = switch.cli("top", "-n", "3", "-d", "0.1").stdout
    assert text.count("PORT STATE") == 3 and text.count("workers: CPU") == 3 and "\033" not in text


def test_top_shows_a_port_that_appears_and_one_that_goes(switch):
    switch.cli("port", "add", "old")
    with subprocess.Popen([FLUE, "--api", switch.api_path, "top", "-n", "2", "-d", "1"], stdout=subprocess.PIPE, text=True) as top:
        time.sleep(0.3)
        switch.delete("old")
        switch.add("new")
        out, _ = top.communicate(timeout=15)
    assert top.returncode == 0 and "old" not in out and out.count("new ") == 2


def test_top_ends_when_flued_does(switch):
    with subprocess.Popen([FLUE, "--api", switch.api_path, "top", "-d", "0.2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as top:
        time.sleep(0.5)
        switch.stop()
        _, err = top.communicate(timeout=15)
    assert top.returncode == 1 and err.startswith("flue: ")
    switch.start()


def test_top_gives_the_terminal_back(switch):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    before = termios.tcgetattr(slave)
    switch.cli("port", "add", "vm1")
    with subprocess.Popen([FLUE, "--api", switch.api_path, "top", "-d", "0.1"], stdin=slave, stdout=slave, stderr=slave) as top:
        seen = b""
        deadline = time.monotonic() + 15
        while seen.count(b"vm1") < 2:
            assert time.monotonic() < deadline, seen
            if select.select([master], [], [], 0.1)[0]:
                seen += os.read(master, 65536)
        top.send_signal(signal.SIGINT)
        assert top.wait(15) == 0
        while select.select([master], [], [], 0.2)[0]:
            seen += os.read(master, 65536)
    assert seen.startswith(b"\033[?1049h") and seen.rstrip().endswith(b"\033[?1049l")
    assert seen.count(b"\033[?25l") == seen.count(b"\033[?25h") == 1
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


# -- qemu --


def options(words):
    """[(option, value)] of a hypervisor's arguments."""
    return list(zip(words[::2], words[1::2]))


def fields(value):
    """a,b=c -> {"a": None, "b": "c"}; a doubled comma is QEMU's for a comma."""
    parts = value.replace(",,", "\0").split(",")
    return {k: v.replace("\0", ",") if sep else None for k, sep, v in (p.partition("=") for p in parts)}


@pytest.mark.parametrize("role, pairs", [("listen", 1), ("listen", 4), ("connect", 4), ("connect", 16)])
def test_hypervisors_get_what_fits_the_port(switch, role, pairs):
    port = switch.add("vm1", role=role, queues=pairs, mtu=9000, mac=MAC, socket=str(switch.run_dir / "a,b.sock"))
    told = as_json(switch, "qemu", "vm1")

    qemu = dict(options(told["qemu"]))
    memory, char, net, device = (fields(qemu[o]) for o in ("-object", "-chardev", "-netdev", "-device"))
    assert memory.keys() >= {"memory-backend-memfd"} and memory["share"] == "on" and memory["size"] == qemu["-m"]
    assert fields(qemu["-machine"])["memory-backend"] == memory["id"]
    assert char["path"] == port["socket"] and net["chardev"] == char["id"] and device["netdev"] == net["id"]
    assert ("server" in char, char.get("reconnect")) == ((True, None) if role == "connect" else (False, "1"))
    assert net["queues"] == str(pairs) and device["vectors"] == str(2 * pairs + 2)
    assert device["mq"] == ("on" if pairs > 1 else "off")
    assert (device["mac"], device["host_mtu"]) == (MAC, "9000")
    assert device["ctrl_guest_offloads"] == "off"  # QEMU would answer the guest itself

    domain = ET.fromstring(f"<domain>{told['libvirt']}</domain>")
    assert domain.find("memoryBacking/source").get("type") == "memfd"
    assert domain.find("memoryBacking/access").get("mode") == "shared"
    interface = domain.find("interface")
    source = interface.find("source")
    assert interface.get("type") == "vhostuser" and source.get("path") == port["socket"]
    assert source.get("mode") == ("server" if role == "connect" else "client")
    assert (source.find("reconnect") is not None) == (role == "listen")
    assert interface.find("driver").get("queues") == str(pairs) and interface.find("mtu").get("size") == "9000"
    assert interface.find("mac").get("address") == MAC

    hypervisor = dict(options(told["cloud_hypervisor"]))
    assert "shared=on" in hypervisor["--memory"] and f"num_queues={2 * pairs}," in hypervisor["--net"]
    assert f"vhost_mode={'server' if role == 'connect' else 'client'}," in hypervisor["--net"]


def test_the_words_for_people_are_those_for_programs(switch):
    switch.add("vm1", socket=str(switch.run_dir / "it's.sock"))
    text = switch.cli("qemu", "vm1").stdout
    told = as_json(switch, "qemu", "vm1")
    command = re.search(r"^qemu-system-x86_64.*?[^\\]$", text, re.M | re.S)[0]
    assert shlex.split(command.replace("\\\n", " "))[1:] == told["qemu"]
    assert told["libvirt"] in text
    assert "front_end=cloud-hypervisor" in text


def test_each_vm_gets_an_address_of_its_own(switch):
    macs = set()
    for name in ("vm1", "vm2"):
        switch.add(name)
        device = dict(options(as_json(switch, "qemu", name)["qemu"]))["-device"]
        macs.add(fields(device)["mac"])
    assert len(macs) == 2


def test_only_guests_have_a_vm(switch):
    switch.cli("port", "add", "t0", "kind=tap", "ifname=flue-t0")
    done = switch.cli("qemu", "t0", check=False)
    assert done.returncode == 1 and "this is a tap port" in done.stderr
    assert switch.cli("qemu", "vm9", check=False).returncode == 1


# -- doctor --


def findings(switch):
    done = switch.cli("--json", "doctor", check=False)
    return done.returncode, [(f["verdict"], f["what"], f["remedy"]) for f in json.loads(done.stdout)]


def find(found, words):
    return next((f for f in found if words in f[1]), None)


def test_doctor_is_content_with_a_healthy_switch(switch, attach):
    vm1 = attach("vm1")
    vm1.send([bytes.fromhex("ffffffffffff" + MAC.replace(":", "") + "88b6") + bytes(50)])
    wait_until(lambda: switch.counters("vm1")["rx_frames"] == 1, "a frame")
    status, found = findings(switch)
    assert status == 0 and all(verdict != "FAIL" for verdict, _, _ in found)
    assert find(found, "vm1: up")[0] == "ok"
    assert find(found, "/dev/net/tun") and find(found, "/dev/kvm") and find(found, "of memory are free")
    assert all(remedy for verdict, _, remedy in found if verdict != "ok")
    text = switch.cli("doctor").stdout
    assert "ok    vm1: up\n" in text


def test_doctor_works_without_flued(tmp_path):
    done = flue("--api", str(tmp_path / "api.sock"), "--json", "doctor")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert any(f["verdict"] == "warn" and "does not answer" in f["what"] and f["remedy"] for f in found)
    assert any("/dev/net/tun" in f["what"] for f in found)


def test_doctor_finds_a_socket_that_is_gone(switch):
    os.unlink(switch.add("vm1")["socket"])
    status, found = findings(switch)
    verdict, _, remedy = find(found, "vm1: its socket")
    assert (status, verdict, remedy) == (1, "FAIL", "remove the port and add it again")


def test_doctor_tells_waiting_from_starting(switch, attach):
    vm1 = attach("vm1")
    vm1.stop_rings()
    switch.wait_state("vm1", "starting")
    switch.add("vm2")
    _, found = findings(switch)
    assert find(found, "vm1: a hypervisor is connected")[0] == "warn"
    assert find(found, "vm2: nobody is connected")[0] == "warn"


def test_doctor_finds_an_uplink_that_is_down_or_carries_less(switch, netns):
    inside, outside = netns(), netns()
    inside.veth("up0", "peer0", outside)
    for ns, ifname in ((inside, "up0"), (outside, "peer0")):
        ns.up(ifname, mtu=9000)
    switch.add("up", kind="packet", ifname="up0", netns=inside.name, mtu=9000)
    switch.wait_state("up", "up")
    assert find(findings(switch)[1], "up: up on up0")[0] == "ok"

    inside.ip("link", "set", "up0", "mtu", "1400")
    status, found = findings(switch)
    verdict, _, remedy = find(found, "up: MTU 9000 asked, but up0 carries 1400")
    assert (status, verdict, remedy) == (1, "FAIL", f"ip netns exec {inside.name} ip link set up0 mtu 9000")
    subprocess.run(shlex.split(remedy), check=True)

    inside.ip("link", "set", "up0", "down")
    switch.wait_state("up", "down")
    verdict, _, remedy = find(findings(switch)[1], "up: down")
    assert verdict == "warn"
    subprocess.run(shlex.split(remedy), check=True)
    switch.wait_state("up", "up")

    inside.ip("link", "del", "up0")
    switch.wait_state("up", "down")
    status, found = findings(switch)
    assert status == 1 and find(found, "up: interface up0")[0] == "FAIL"


def test_doctor_says_nothing_of_frames_that_the_kernel_merges(switch, netns):
    """They are passed on as they are."""
    inside, outside = netns(), netns()
    inside.veth("up0", "peer0", outside)
    inside.exec("ethtool", "-K", "up0", "gro", "on")
    switch.add("up", kind="packet", ifname="up0", netns=inside.name)
    assert not find(findings(switch)[1], "merges")


def test_doctor_finds_an_interface_that_carries_more_than_its_port(switch, netns):
    inside, outside = netns(), netns()
    inside.veth("up0", "peer0", outside)
    inside.up("up0", mtu=4000)
    switch.add("up", kind="packet", ifname="up0", netns=inside.name)
    verdict, _, remedy = find(findings(switch)[1], "up: up0 carries 4000, but the port's MTU is 1500")
    assert (verdict, remedy) == ("warn", "flue port set up mtu=4000")
    switch.cli(*shlex.split(remedy)[1:])
    assert not find(findings(switch)[1], "up0 carries")
    inside.ip("link", "set", "up0", "mtu", "65535")
    assert find(findings(switch)[1], "up: up0 carries 65535")[2] == "flue port set up mtu=9216"
    switch.set("up", mtu=9216)
    assert not find(findings(switch)[1], "up0 carries")


def test_doctor_finds_a_driver_that_was_not_told_the_mtu(switch, attach):
    attach("vm1", {"mtu": 9000}, drop=vu.NET_F_MTU)
    attach("vm2", {"mtu": 9000})
    attach("vm3", drop=vu.NET_F_MTU)
    found = findings(switch)[1]
    verdict, _, remedy = find(found, "vm1: its MTU is 9000, but the guest's driver was not told")
    assert verdict == "warn" and remedy.endswith("mtu 9000")
    assert not find(found, "vm2: its MTU") and not find(found, "vm3: its MTU")


def test_doctor_finds_guests_that_may_send_what_no_wire_carries(switch):
    switch.add("vm1", mtu=9217)
    switch.add("vm2", mtu=9216)
    assert not find(findings(switch)[1], "no interface carries")
    switch.add("t0", kind="tap", ifname="flue-t0", mtu=9216)
    found = findings(switch)[1]
    assert find(found, "vm1: its MTU is 9217, and no interface carries more than 9216")[0] == "warn"
    assert not find(found, "vm2: its MTU")


def test_doctor_finds_ports_that_disagree_about_the_mtu(switch):
    switch.add("vm1", mtu=9000)
    switch.add("vm2")
    _, found = findings(switch)
    verdict, what, remedy = find(found, "too_big")
    assert verdict == "warn" and "vm1 has MTU 9000 and vm2 has 1500" in what and "flue port set" in remedy
    assert what.endswith("IP senders are told")
    switch.set("vm1", too_big_reply=False)
    assert find(findings(switch)[1], "too_big")[1].endswith("nobody is told (too_big_reply is off)")
    switch.set("vm2", mtu=9000)
    assert find(findings(switch)[1], "all ports have MTU 9000")[0] == "ok"


def test_doctor_finds_an_api_socket_open_to_all(start_flued):
    switch = start_flued({"api": {"mode": "0666"}})
    _, found = findings(switch)
    assert find(found, "every user of this host may change the switch")[0] == "warn"


def test_doctor_finds_a_limit_of_files_too_low(switch):
    resource.prlimit(switch.pid, resource.RLIMIT_NOFILE, (256, 256))
    verdict, _, remedy = find(findings(switch)[1], "flued may open 256 files")
    assert verdict == "warn" and "LimitNOFILE" in remedy
