# SPDX-License-Identifier: Apache-2.0
"""The API: what each route answers, every way to be refused, and what a client cannot do to flued."""

import contextlib
import grp
import json
import os
import re
import resource
import socket
import stat
import threading
import time

import pytest

from flued import ApiError, Flued, sanitized
from wait import wait_until

MAC = "52:54:00:00:00:01"
PORT_KEYS = {"name", "kind", "mac", "mtu", "spoof_guard", "offloads_off", "too_big_reply", "state", "reason", "detail", "counters", "drops"}
COUNTERS = {"rx_frames", "rx_bytes", "tx_frames", "tx_bytes", "rx_broadcast", "rx_multicast", "tx_flooded"}


def refused(call, *args, **kwargs):
    with pytest.raises(ApiError) as caught:
        call(*args, **kwargs)
    return caught.value


def connect(switch, name=None):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    if name:
        s.bind(name)
    s.connect(switch.api_path)
    return s


def read_all(s):
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := s.recv(65536):
            data += part
    return data


# -- what it answers --


def test_status_tells_who_it_is(switch):
    status = switch.status()
    assert status["pid"] == switch.pid
    assert re.fullmatch(r"\d+\.\d+\.\d+", status["version"])
    assert status["switch"] == "default" and status["ports"] == 0 and status["ageing_s"] == 300
    assert 0 < status["uptime_s"] < 60 and status["cpu_s"] > 0 and status["rss_bytes"] > 1 << 20
    assert status["fdb"] == {"entries": 0, "capacity": 16384, "learned": 0, "aged": 0, "moved": 0, "full": 0}
    workers = status["workers"]
    assert [w["id"] for w in workers] == list(range(len(workers))) and len(workers) >= 1
    assert {"cpu", "queues", "awake", "rounds", "busy_rounds", "frames", "sleeps", "cpu_s"} < workers[0].keys()


def test_a_new_port_is_answered_as_it_is(switch):
    status, headers, body = switch.request("POST", "/v1/ports", json.dumps({"name": "vm1", "vlan": 10, "mac": MAC.upper()}))
    port = json.loads(body)
    assert status == 201 and headers["Content-Type"] == "application/json"
    assert port.keys() == PORT_KEYS | {"vlan", "socket", "role", "queues", "front_end"}
    assert (port["mac"], port["vlan"], port["spoof_guard"], port["state"]) == (MAC, 10, True, "waiting")
    assert port["counters"] == dict.fromkeys(COUNTERS, 0) and port["drops"] == {}
    assert stat.S_ISSOCK(os.stat(port["socket"]).st_mode)
    assert switch.port("vm1") == port
    assert switch.api("GET", "/v1/ports") == {"ports": [port]}


def test_a_trunk_shows_its_vlans_and_no_access_vlan(switch):
    port = switch.add("vm1", trunk="20-30,10", native=10)
    assert port["trunk"] == "10,20-30" and port["native"] == 10 and "vlan" not in port
    port = switch.set("vm1", native=None)
    assert "native" not in port
    port = switch.set("vm1", vlan=7)
    assert port["vlan"] == 7 and "trunk" not in port


def test_live_settings_change_and_stay(switch):
    switch.add("vm1")
    port = switch.set("vm1", mtu=9000, mac=MAC, vlan=4094, spoof_guard=False)
    assert (port["mtu"], port["mac"], port["vlan"], port["spoof_guard"]) == (9000, MAC, 4094, False)
    port = switch.set("vm1")
    assert (port["mtu"], port["mac"]) == (9000, MAC)
    port = switch.set("vm1", mac=None)
    assert port["mac"] is None


def test_a_deleted_port_is_gone_with_its_socket(switch):
    path = switch.add("vm1")["socket"]
    status, _, body = switch.request("DELETE", "/v1/ports/vm1")
    assert (status, body) == (204, b"")
    assert not os.path.exists(path)
    assert refused(switch.port, "vm1").status == 404
    assert switch.add("vm1")["state"] == "waiting"


def test_ports_keep_the_order_they_were_added_in(switch):
    names = ["z", "a", "m"]
    for name in names:
        switch.add(name)
    assert [p["name"] for p in switch.api("GET", "/v1/ports")["ports"]] == names


def test_ageing_changes_while_it_runs(switch):
    n = len(switch.status()["workers"])
    as_it_was = {"switch": "default", "mtu": 1500, "ageing_s": 300, "workers": n, "spin_us": 20, "gather_us": 2}
    assert switch.api("PATCH", "/v1/switch", {}) == switch.api("GET", "/v1/switch") == as_it_was
    assert switch.api("PATCH", "/v1/switch", {"ageing_s": 0}) == as_it_was | {"ageing_s": 0}
    assert switch.status()["ageing_s"] == 0


def test_workers_and_their_pace_change_while_it_runs(switch):
    new = {"workers": 3, "spin_us": 0, "gather_us": 1000}
    assert new.items() <= switch.api("PATCH", "/v1/switch", new).items()
    status = switch.status()
    assert (len(status["workers"]), status["spin_us"], status["gather_us"]) == (3, 0, 1000)
    fds = switch.n_fds()
    for n in (16, 1, 2, 3):
        switch.api("PATCH", "/v1/switch", {"workers": n})
        assert [w["id"] for w in switch.status()["workers"]] == list(range(n))
    switch.wait_fds(fds)


def test_ports_that_do_not_say_get_the_switch_s_mtu(start_flued):
    switch = start_flued({"ports": [{"name": "a"}, {"name": "b", "mtu": 1400}], "switch": {"mtu": 4000}})
    assert (switch.port("a")["mtu"], switch.port("b")["mtu"]) == (4000, 1400)
    assert switch.api("PATCH", "/v1/switch", {"mtu": 9000})["mtu"] == switch.api("GET", "/v1/switch")["mtu"] == 9000
    assert switch.add("c")["mtu"] == 9000 and switch.add("t0", kind="tap", ifname="flue-t0")["mtu"] == 9000
    assert switch.port("a")["mtu"] == 4000  # those there are keep theirs


def test_every_drop_reason_has_its_meaning(switch):
    drops = switch.api("GET", "/v1/drops")["drops"]
    assert len({d["name"] for d in drops}) == len(drops) >= 18
    assert all(re.match(r"(rx|tx): ", d["meaning"]) for d in drops)


def test_the_address_table_is_listed_and_flushed(switch):
    assert switch.api("GET", "/v1/fdb") == {"entries": []}
    assert switch.api("DELETE", "/v1/fdb") == {"flushed": 0}


def test_a_name_may_be_written_with_percent_signs(switch):
    switch.add("vm1")
    assert switch.api("GET", "/v1/ports/%76m1")["name"] == "vm1"


def test_head_is_get_without_a_body(switch):
    status, _, body = switch.request("HEAD", "/v1/status")
    assert (status, body) == (200, b"")


def test_metrics_say_what_the_ports_say(switch, attach):
    vm1, vm2 = attach("vm1", {"mac": MAC}), attach("vm2")
    frame = bytes.fromhex("ffffffffffff" + MAC.replace(":", "") + "88b6") + bytes(50)
    vm1.send([frame, frame[:6] + bytes.fromhex("525400000002") + frame[12:]])  # its own address, and another's
    assert vm2.recv() == [frame]
    switch.wait_drops("vm1", mac_spoofed=1)
    samples = dict(line.rsplit(" ", 1) for line in switch.metrics().splitlines() if not line.startswith("#"))
    for name in ("vm1", "vm2"):
        for counter, value in switch.counters(name).items():
            assert float(samples[f'flue_port_{counter}_total{{port="{name}"}}']) == value
        assert float(samples[f'flue_port_up{{port="{name}"}}']) == 1
    assert float(samples['flue_port_drops_total{port="vm1",reason="mac_spoofed"}']) == 1
    assert float(samples['flue_port_drops_total{port="vm1",reason="too_short"}']) == 0
    assert float(samples["process_resident_memory_bytes"]) > 1 << 20
    assert 'flue_worker_cpu_seconds_total{worker="0"}' in samples
    assert switch.request("GET", "/metrics")[1]["Content-Type"].startswith("text/plain; version=0.0.4")


def test_the_mac_of_a_guest_without_one_is_told(switch):
    mac = switch.add("vm1")["detail"]["guest_mac"]
    assert re.fullmatch(r"02(:[0-9a-f]{2}){5}", mac)
    switch.delete("vm1")
    assert switch.add("vm1")["detail"]["guest_mac"] == mac
    assert switch.add("vm2", mac=MAC)["detail"]["guest_mac"] == MAC


# -- refusals --

BAD_PORTS = [
    # key, value, words of the message
    ("name", "", "is not a name"),
    ("name", "a/b", "is not a name"),
    ("name", "a" * 32, "is not a name"),
    ("name", 5, "must be a text"),
    ("kind", "veth", "is not a kind"),
    ("mac", "52:54:00", "is not a MAC address"),
    ("mac", "ff:ff:ff:ff:ff:ff", "not the address of one station"),
    ("vlan", 0, "is not a VLAN"),
    ("vlan", 4095, "is not a VLAN"),
    ("vlan", "10", "must be a whole number"),
    ("vlan", 10.5, "must be a whole number"),
    ("trunk", "10-5", "is not a list of VLANs"),
    ("native", 10, "only a trunk"),
    ("mtu", 67, "is not an MTU"),
    ("mtu", 65536, "is not an MTU"),
    ("mtu", None, "must be a whole number"),
    ("mtu", True, "must be a whole number"),
    ("offloads_off", "gso", "'gso' is not an offload"),
    ("offloads_off", None, "must be a text"),
    ("coalesce", True, "does not have this"),
    ("too_big_reply", 1, "must be yes or no"),
    ("spoof_guard", "yes", "must be yes or no"),
    ("spoof_guard", True, "needs to know the port's MAC"),
    ("socket", "vm1.sock", "is not an absolute path"),
    ("socket", "/" + "x" * 107, "longer than the 107 bytes"),
    ("role", "server", "is not a role"),
    ("queues", 0, "is not a number of queue pairs"),
    ("queues", 17, "is not a number of queue pairs"),
    ("front_end", "xen", "is not a front end"),
    ("ifname", "eth0", "does not have this"),
    ("netns", "blue", "does not have this"),
    ("colour", "red", "unknown key"),
    ("state", "up", "unknown key"),
]


@pytest.mark.parametrize("key, value, words", BAD_PORTS)
def test_a_bad_key_is_named_and_nothing_is_made(switch, key, value, words):
    error = refused(switch.api, "POST", "/v1/ports", {"name": "vm1", key: value})
    assert (error.status, error.field) == (400, key)
    assert words in error.message and error.remedy
    assert switch.api("GET", "/v1/ports") == {"ports": []}


@pytest.mark.parametrize("kind, key, value", [("tap", "ifname", "no way"), ("packet", "netns", "a/b"), ("tap", "queues", 2), ("tap", "mtu", 9217), ("packet", "mtu", 9217), ("tap", "offloads_off", "guest_csum")])
def test_a_bad_key_of_an_interface_is_named(switch, kind, key, value):
    error = refused(switch.add, "p1", kind=kind, **{key: value})
    assert (error.status, error.field) == (400, key)


def test_a_missing_interface_is_refused_with_a_remedy(switch):
    error = refused(switch.add, "p1", kind="packet", ifname="nowhere0")
    assert error.status in (400, 409) and "nowhere0" in error.message and error.remedy
    error = refused(switch.add, "p1", kind="tap", ifname="t0", netns="nowhere")
    assert error.status in (400, 409) and "nowhere" in error.message and error.remedy
    assert switch.api("GET", "/v1/ports") == {"ports": []}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"nonsense", b'{"name": "vm1",}', b'{"name": "vm1"} {}', b"{'name': 'vm1'}", b'{"name": "vm1", "name": "vm2"}',
        b'{"name": "vm\x00"}', b'{"name": "\\u0000"}', b'{"name": "\xff\xfe"}', b"\xff", b'{"mtu": 1e999}', b"[" * 3000,
        b'{"mtu": 99999999999999999999}',
    ],
)  # fmt: skip
def test_a_body_that_is_not_json_is_refused(switch, body):
    for method, path in (("POST", "/v1/ports"), ("PATCH", "/v1/switch")):
        status, _, answer = switch.request(method, path, body)
        error = json.loads(answer)["error"]
        assert status == 400 and "not JSON" in error["message"] and error["remedy"]


@pytest.mark.parametrize("body", ["[]", '"vm1"', "5", "null", "true"])
def test_json_that_is_no_object_is_refused(switch, body):
    switch.add("vm1")
    for method, path in (("POST", "/v1/ports"), ("PATCH", "/v1/ports/vm1"), ("PATCH", "/v1/switch")):
        status, _, answer = switch.request(method, path, body)
        assert status == 400 and json.loads(answer)["error"]["message"] == "this is not a JSON object"


def test_quoting_what_was_sent_survives_a_cut_within_a_letter(switch):
    error = refused(switch.add, "x" * 39 + "ä€")
    assert error.status == 400 and error.message.startswith("'xxx")


@pytest.mark.parametrize("body", [{"mtu": 67}, {"mtu": 9217}, {"ageing_s": -1}, {"ageing_s": 1000001}, {"ageing_s": "300"}, {"ageing": 5}, {"workers": 0}, {"workers": 17}, {"spin_us": 1.5}, {"gather_us": 1001}])  # fmt: skip
def test_a_bad_setting_is_refused(switch, body):
    error = refused(switch.api, "PATCH", "/v1/switch", body)
    assert error.status == 400 and error.field == next(iter(body)) and error.remedy
    assert switch.status()["ageing_s"] == 300


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/nothing", "/v1/ports/", "/v1/ports/a/b", "/v2/status", "/metrics/", "//v1/status", "/v1/status/.."]
)
def test_an_unknown_path_is_not_found(switch, path):
    for method in ("GET", "POST", "DELETE", "PATCH"):
        status, _, body = switch.request(method, path, "{}")
        assert status == 404 and json.loads(body)["error"]["remedy"]


@pytest.mark.parametrize("name", ["vm2", "VM1", "vm1%00", "vm1%2f", "%ff", "a" * 500, "vm1x"])
def test_an_unknown_port_is_not_found(switch, name):
    switch.add("vm1")
    for method in ("GET", "PATCH", "DELETE"):
        status, _, body = switch.request(method, f"/v1/ports/{name}", "{}")
        assert status == 404 and json.loads(body)["error"]["message"]
    assert len(switch.api("GET", "/v1/ports")["ports"]) == 1


@pytest.mark.parametrize(
    "path, allowed",
    [
        ("/v1/status", "GET"), ("/v1/switch", "GET, PATCH"), ("/v1/ports", "GET, POST"), ("/v1/ports/vm1", "GET, PATCH, DELETE"),
        ("/v1/fdb", "GET, DELETE"), ("/v1/drops", "GET"), ("/metrics", "GET"),
    ],
)  # fmt: skip
def test_a_method_a_path_does_not_take_is_refused_with_those_it_takes(switch, path, allowed):
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - set(allowed.split(", ")):
        status, headers, body = switch.request(method, path)
        assert (status, headers["Allow"]) == (405, allowed), method
        assert allowed in json.loads(body)["error"]["remedy"]


@pytest.mark.parametrize(
    "second, field",
    [
        ({"name": "vm1"}, "name"),
        ({"name": "vm2", "mac": MAC}, "mac"),
        ({"name": "vm2", "socket": "SOCKET"}, "socket"),
        ({"name": "vm2", "kind": "tap", "ifname": "flue-t0"}, "ifname"),
    ],
)
def test_what_another_port_has_is_a_conflict(switch, second, field):
    first = switch.add("vm1", mac=MAC)
    switch.add("t0", kind="tap", ifname="flue-t0")
    if second.get("socket"):
        second = second | {"socket": first["socket"]}
    error = refused(switch.api, "POST", "/v1/ports", second)
    assert (error.status, error.field) == (409, field)
    assert ("t0" if field == "ifname" else "vm1") in error.message and error.remedy
    assert len(switch.api("GET", "/v1/ports")["ports"]) == 2
    if field == "mac":
        switch.add("vm2")
        error = refused(switch.set, "vm2", mac=MAC)
        assert (error.status, error.field) == (409, "mac") and switch.port("vm2")["mac"] is None


@pytest.mark.parametrize(
    "key, value",
    [("name", "vm2"), ("kind", "tap"), ("socket", "/tmp/x"), ("role", "connect"), ("queues", 1), ("front_end", "qemu"), ("ifname", "x"), ("netns", "x"), ("offloads_off", "csum")],
)
def test_what_cannot_change_is_a_conflict_with_the_way_out(switch, key, value):
    before = switch.add("vm1")
    error = refused(switch.api, "PATCH", "/v1/ports/vm1", {"mtu": 9000, key: value})
    assert (error.status, error.field, error.remedy) == (409, key, "delete the port and add it again")
    assert switch.port("vm1") == before


def test_a_refused_change_changes_nothing(switch):
    before = switch.add("vm1")
    assert refused(switch.set, "vm1", mtu=9000, vlan=0).status == 400
    assert switch.port("vm1") == before


def test_a_body_of_more_than_64_kib_is_refused(switch):
    def body(size):
        return b'{"name": "' + b"x" * (size - 12) + b'"}'

    assert switch.request("POST", "/v1/ports", body(65536))[0] == 400
    for size in (65537, 300000):
        status, _, answer = switch.request("POST", "/v1/ports", body(size))
        assert status == 413 and "64 KiB" in json.loads(answer)["error"]["message"]
    s = connect(switch)
    s.sendall(b"POST /v1/ports HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
    assert b" 413 " in read_all(s).splitlines()[0]
    assert switch.status()["ports"] == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n\r\n", b"GET\r\n\r\n", b"nonsense\r\n\r\n", b"GET /v1/status\r\n\r\n", b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nno colon\r\n\r\n", b"POST /v1/ports HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/ports HTTP/1.1\r\nContent-Length: 12abc\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET http://[::1 HTTP/1.1\r\n\r\n", b"GET /v1/ports/%zz HTTP/1.0\r\n\r\n", b"\x00" * 1000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 20000 + b"\r\n\r\n",
        b"POST /v1/ports HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"BREW /v1/status HTTP/1.1\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_not_http_harms_nobody(switch, raw):
    s = connect(switch)
    s.sendall(raw)
    s.shutdown(socket.SHUT_WR)
    answer = read_all(s)
    assert not answer or re.match(rb"HTTP/1\.[01] [45]\d\d ", answer), answer[:200]
    assert switch.status()["pid"] == switch.pid


# -- connections --


def test_several_requests_go_over_one_connection(switch):
    s = connect(switch)
    for _ in range(3):
        s.sendall(b"GET /v1/fdb HTTP/1.1\r\nHost: x\r\n\r\n")
        assert s.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_request_may_come_byte_by_byte(switch):
    s = connect(switch)
    for byte in b"GET /v1/fdb HTTP/1.0\r\n\r\n":
        s.sendall(bytes([byte]))
    assert b"200" in read_all(s)


def test_a_client_with_a_long_name_is_served_like_any_other(switch):
    name = str(switch.run_dir / ("c" * 60))
    s = connect(switch, name)
    s.sendall(b"GET /v1/fdb HTTP/1.0\r\n\r\n")
    assert b" 200 " in read_all(s).splitlines()[0]


def test_clients_that_leave_in_the_middle_leave_nothing_behind(switch):
    switch.status()
    before = switch.n_fds()
    for raw in (b"", b"GET", b"GET /v1/status HTTP/1.1\r\n\r\n", b"POST /v1/ports HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{"):
        for _ in range(20):
            s = connect(switch)
            s.sendall(raw)
            s.close()
    switch.wait_fds(before)


def test_clients_that_say_nothing_keep_nobody_waiting(switch):
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connect(switch))
        began = time.monotonic()
        switch.status()
        assert time.monotonic() - began < 1


def test_without_descriptors_it_waits_without_haste_and_goes_on(switch):
    switch.status()
    limit = len(switch.fds()) + 5
    resource.prlimit(switch.pid, resource.RLIMIT_NOFILE, (limit, limit))
    clients = [connect(switch) for _ in range(20)]
    wait_until(lambda: "cannot accept a connection" in switch.log(), "a word about it")
    before, log_size = switch.cpu_s(), len(switch.log())
    time.sleep(1)
    assert switch.cpu_s() - before < 0.3
    assert len(switch.log()) - log_size < 2000
    for s in clients:
        s.close()
    assert wait_until(switch.status, "an answer")


def test_many_clients_at_once(switch):
    errors = []

    def client(i):
        try:
            for k in range(10):
                switch.add(f"p{i}-{k}")
                switch.set(f"p{i}-{k}", mtu=2000 + k)
                assert switch.port(f"p{i}-{k}")["mtu"] == 2000 + k
                switch.delete(f"p{i}-{k}")
        except Exception as e:  # told by the test's own thread
            errors.append(e)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == [] and switch.status()["ports"] == 0


def test_ports_come_and_go_without_a_trace(switch):
    def one_round():
        for i in range(50):
            switch.add(f"p{i}", mac=f"52:54:00:00:00:{i:02x}")
        for i in range(50):
            switch.delete(f"p{i}")

    one_round()
    time.sleep(0.2)  # the last connection of the round is closed
    fds, rss = switch.n_fds(), switch.rss_bytes()
    for _ in range(5):
        one_round()
    switch.wait_fds(fds)
    assert sanitized() or switch.rss_bytes() - rss < 2 << 20  # a sanitizer keeps what was freed
    assert [f for f in os.listdir(switch.run_dir) if f.startswith("p")] == []
    assert len(switch.log().splitlines()) < 100, "600 requests are no reason to fill the log"


def test_the_switch_is_full_at_256_ports(switch):
    for i in range(256):
        switch.add(f"p{i}")
    error = refused(switch.add, "one-more")
    assert error.status == 409 and "256 ports" in error.message and error.remedy
    assert len(switch.api("GET", "/v1/ports")["ports"]) == 256
    assert switch.metrics().count("flue_port_up{") == 256


# -- the socket itself --


def test_the_socket_has_the_configured_mode_and_group(start_flued):
    group = next(g for g in grp.getgrall() if g.gr_gid)
    switch = start_flued({"api": {"mode": "0620", "group": group.gr_name}})
    st = os.stat(switch.api_path)
    assert (stat.S_IMODE(st.st_mode), st.st_gid) == (0o620, group.gr_gid)


def test_the_socket_is_for_its_owner_and_group_by_default(switch):
    assert stat.S_IMODE(os.stat(switch.api_path).st_mode) == 0o660


def test_the_socket_is_gone_after_an_orderly_end(switch):
    switch.add("vm1")
    switch.stop()
    assert sorted(os.listdir(switch.run_dir)) == ["flued.log", "flued.state"]
    assert switch.stop_s < 1
    switch.start()


def test_a_killed_flued_leaves_a_socket_that_the_next_one_takes(switch):
    switch.add("vm1")
    switch.kill9()
    assert os.path.exists(switch.api_path)
    switch.start()
    assert switch.status()["ports"] == 0
    switch.add("vm1")


def test_the_answer_to_an_idle_connection_is_its_end(switch):
    """10 s of silence: a connection must not stay for ever. (Slow, so it is the only one that waits for it.)"""
    with connect(switch) as s:
        s.settimeout(30)
        began = time.monotonic()
        assert s.recv(1) == b""
        assert 8 < time.monotonic() - began < 20


def test_api_path_of_its_own(tmp_path):
    path = str(tmp_path / "other.sock")
    switch = Flued(args=["--api", path], start=False)
    switch.api_path = path
    switch.start()
    try:
        assert switch.status()["pid"] == switch.pid
        assert not (switch.run_dir / "api.sock").exists()
    finally:
        switch.close()
