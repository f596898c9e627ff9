# SPDX-License-Identifier: Apache-2.0
"""flued as a program: options, configuration, what stops it from starting, how it ends."""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from flued import BUILD, Flued
from netns import run
from wait import wait_until

FLUED = str(BUILD / "src/main/flued")
MAC = "52:54:00:00:00:01"


def flued(*args, **kwargs):
    return subprocess.run([FLUED, *args], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, **kwargs)


def fails(*args, **kwargs):
    """It must end with status 1 and one line; returns that."""
    done = flued(*args, **kwargs)
    assert (done.returncode, done.stdout) == (1, ""), done
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("flued: error: "), done.stderr
    return lines[0].removeprefix("flued: error: ")


# -- options --


def test_help_and_version():
    done = flued("--help")
    assert done.returncode == 0
    for option in ("--config", "--run-dir", "--api", "--log-level", "--check-config", "--version", "--help"):
        assert option in done.stdout
    assert re.fullmatch(r"flued \d+\.\d+\.\d+\n", flued("--version").stdout)


@pytest.mark.parametrize(
    "args",
    [["--nonsense"], ["--config"], ["vm1"], ["--check-config"], ["--log-level", "loud"], ["--run-dir", ""], ["--api", ""]],
)
def test_a_wrong_command_line_is_status_2(args):
    done = flued(*args)
    assert (done.returncode, done.stdout) == (2, "") and "flued: error: " in done.stderr


def test_less_is_logged_on_request():
    quiet = Flued(args=["--log-level", "error"], start=False)
    quiet.spawn()
    try:
        wait_until(lambda: os.path.exists(quiet.api_path) and quiet.status(), "an answer")
        quiet.add("vm1")
        assert quiet.log() == ""
    finally:
        quiet.close()


# -- configuration --


def test_a_configuration_becomes_a_switch(start_flued):
    switch = start_flued(
        {
            "switch": {"name": "blue", "ageing_s": 60, "fdb_entries": 1024},
            "workers": {"cpus": sorted(os.sched_getaffinity(0))[:1], "spin_us": 5},
            "ports": [
                {"name": "vm1", "mac": MAC, "vlan": 10, "mtu": 9000},
                {"name": "vm2", "trunk": "10,20-30", "native": 20, "role": "connect", "queues": 1, "front_end": "crosvm"},
                {"name": "t0", "kind": "tap", "ifname": "flue-t0"},
            ],
        }
    )
    status = switch.status()
    assert (status["switch"], status["ageing_s"], status["fdb"]["capacity"]) == ("blue", 60, 1024)
    assert [w["cpu"] for w in status["workers"]] == sorted(os.sched_getaffinity(0))[:1]
    assert [p["name"] for p in switch.api("GET", "/v1/ports")["ports"]] == ["vm1", "vm2", "t0"]
    vm1, vm2 = switch.port("vm1"), switch.port("vm2")
    assert (vm1["vlan"], vm1["mtu"], vm1["spoof_guard"], vm1["mac"]) == (10, 9000, True, MAC)
    assert (vm2["trunk"], vm2["native"], vm2["role"], vm2["queues"], vm2["front_end"]) == ("10,20-30", 20, "connect", 1, "crosvm")
    assert not os.path.exists(vm2["socket"])  # it connects: the socket is the other side's


def test_check_config_says_yes_or_where_it_is_wrong(tmp_path):
    file = tmp_path / "flue.yaml"
    file.write_text("ports:\n  - name: vm1\n  - name: vm2\n    mac: here\n")
    assert fails("--config", str(file), "--check-config") == (
        f"{file}:4: ports[1].mac: 'here' is not a MAC address: write six hex pairs, like 52:54:00:12:34:56"
    )
    file.write_text("ports:\n  - name: vm1\n  - name: vm2\n")
    done = flued("--config", str(file), "--check-config")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{file}: in order, 2 ports\n", "")


@pytest.mark.parametrize(
    "text, line, says",
    [
        ("ports:\n- name: vm1\n  colour: red\n", 3, "ports[0].colour: unknown key: the keys here are name, kind, mac"),
        ("switch:\n  name: [a]\n", 2, "switch.name: must be a single value"),
        ("ports:\n- name: a\n- name: a\n", 3, "ports[1].name: there is a port a already (ports[0], line 2)"),
        ("a: [\n", 2, "this is not YAML"),
        ("workers:\n\n  cpus: [1023]\n", 3, "workers.cpus[0]: flued may not run on CPU 1023"),
    ],
)
def test_a_wrong_configuration_ends_it_with_the_line(tmp_path, text, line, says):
    file = tmp_path / "flue.yaml"
    file.write_text(text)
    assert fails("--config", str(file), "--run-dir", str(tmp_path / "run")).startswith(f"{file}:{line}: {says}")
    assert not (tmp_path / "run").exists()


def test_a_configuration_that_cannot_be_read_is_named(tmp_path):
    assert "No such file" in fails("--config", str(tmp_path / "none.yaml"))
    assert fails("--config", str(tmp_path)).startswith(f"{tmp_path}: ")


# -- what stops it from starting --


def test_a_run_directory_is_made_but_not_its_parents(tmp_path):
    said = fails("--run-dir", str(tmp_path / "a/b"))
    assert said.startswith(f"cannot create the run directory {tmp_path}/a/b: No such file or directory: ")
    (tmp_path / "file").write_text("")
    assert f"{tmp_path}/file" in fails("--run-dir", str(tmp_path / "file"))
    long = tmp_path / ("d" * 120)
    assert "too long" in fails("--run-dir", str(long))


def test_a_second_flued_is_told_and_harms_not_the_first(switch):
    switch.add("vm1")
    assert fails("--run-dir", str(switch.run_dir)) == (
        f"another flued uses the run directory {switch.run_dir}: stop it, or name another directory with --run-dir"
    )
    other = switch.run_dir / "other"
    said = fails("--run-dir", str(other), "--api", switch.api_path)
    assert said.startswith(f"another flued serves {switch.api_path}: ")
    assert switch.port("vm1")["state"] == "waiting"


def test_what_is_not_a_socket_is_not_removed(tmp_path):
    (tmp_path / "api.sock").write_text("precious")
    said = fails("--run-dir", str(tmp_path))
    assert said == f"{tmp_path}/api.sock exists and is not a socket: remove it, or choose another path with --api"
    assert (tmp_path / "api.sock").read_text() == "precious"


def test_a_port_that_cannot_be_made_ends_it_with_its_name(tmp_path):
    file = tmp_path / "flue.yaml"
    file.write_text("ports:\n- name: vm1\n- name: up\n  kind: packet\n  ifname: nowhere0\n")
    said = fails("--config", str(file), "--run-dir", str(tmp_path), "--log-level", "error")
    assert said.startswith(f"{file}:5: ports[1].ifname: ") and "nowhere0" in said
    assert not (tmp_path / "vm1.sock").exists() and not (tmp_path / "api.sock").exists()


def test_an_unknown_group_ends_it(tmp_path):
    file = tmp_path / "flue.yaml"
    file.write_text("api: {group: no-such-group}\n")
    said = fails("--config", str(file), "--run-dir", str(tmp_path))
    assert said.startswith(f"{file}:1: api.group: there is no group 'no-such-group': ")
    assert not (tmp_path / "api.sock").exists()


def test_a_port_cannot_have_the_api_s_socket(tmp_path):
    file = tmp_path / "flue.yaml"
    file.write_text("ports:\n- name: vm1\n- name: api\n")
    assert f"{file}:3: ports[1].socket: {tmp_path}/api.sock is the API's, port api cannot have it" in fails("--config", str(file), "--run-dir", str(tmp_path))


def test_the_api_s_socket_cannot_be_taken_through_the_api(switch):
    status, _, body = switch.request("POST", "/v1/ports", '{"name": "api"}')
    assert status == 409 and b"api.sock" in body
    assert switch.status()["ports"] == 0


# -- life and end --


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_ends_in_order_and_takes_everything_along(number):
    switch = Flued()
    switch.add("vm1")
    switch.add("t0", kind="tap", ifname="flue-t0")
    began = time.monotonic()
    switch.process.send_signal(number)
    assert switch.wait_exit() == 0
    assert time.monotonic() - began < 1
    assert sorted(p.name for p in switch.run_dir.iterdir()) == ["flued.log", "flued.state"]
    assert run("ip", "link", "show", "flue-t0", check=False).returncode != 0
    switch.close()


def test_it_ends_in_order_with_guests_at_work(switch, attach):
    attach("vm1")
    attach("vm2")
    switch.stop()
    assert switch.stop_s < 1
    switch.start()


def test_other_signals_do_not_matter(switch):
    os.kill(switch.pid, signal.SIGPIPE)
    s = socket.socket(socket.AF_UNIX)
    s.connect(switch.api_path)
    s.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 100)
    s.close()  # before it can answer
    assert switch.status()["pid"] == switch.pid


def test_it_may_open_as_many_files_as_the_host_allows(switch):
    soft, hard = re.search(r"Max open files\s+(\d+)\s+(\d+)", switch.proc("limits")).groups()
    assert soft == hard


def test_it_waits_without_work(switch):
    for i in range(20):
        switch.add(f"vm{i}")
    before = switch.cpu_s()
    time.sleep(2)
    assert switch.cpu_s() - before < 0.05


def test_a_relative_run_directory_is_where_it_was_started(tmp_path):
    process = subprocess.Popen(
        [FLUED, "--run-dir", "here"], cwd=tmp_path, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stderr.readline() == f"flued: info: ready, api {tmp_path}/here/api.sock\n"
        assert os.stat(tmp_path / "here").st_mode & 0o777 == 0o755
    finally:
        process.terminate()
        assert process.wait(10) == 0
        process.stderr.close()


# -- what the documents promise --

TOP = Path(__file__).resolve().parents[2]


def test_the_examples_are_in_order(tmp_path):
    page = (TOP / "man/flue.yaml.5.scd").read_text()
    examples = re.findall(r"^```\n(.*?)^```", page, re.M | re.S)
    examples.append((TOP / "contrib/flue.yaml").read_text())
    assert len(examples) >= 2
    for text in examples:
        (tmp_path / "flue.yaml").write_text(text)
        done = flued("--config", str(tmp_path / "flue.yaml"), "--check-config")
        assert done.returncode == 0, done.stderr


def test_what_the_example_leaves_out_is_in_order_too(tmp_path):
    text = re.sub(r"^#(\s+\w|\w+:|\s+- )", r"\1", (TOP / "contrib/flue.yaml").read_text(), flags=re.M)
    conf = yaml.safe_load("\n".join(line for line in text.splitlines() if not re.match(r" [A-Z]", line)))
    assert conf["ports"][-1]["kind"] == "packet" and "group" in conf["api"] and conf["workers"]["cpus"]
    conf["workers"]["cpus"] = sorted(os.sched_getaffinity(0))[:1]
    (tmp_path / "flue.yaml").write_text(yaml.safe_dump(conf))
    done = flued("--config", str(tmp_path / "flue.yaml"), "--check-config")
    assert done.returncode == 0, done.stderr


def test_the_manual_has_every_key_and_option():
    page = (TOP / "man/flue.yaml.5.scd").read_text()
    for key in re.findall(r"^KEY\((\w+)", (TOP / "src/ctl/port_keys.def").read_text(), re.M):
        assert re.search(rf"^\*{key}\*$", page, re.M), key
    page = (TOP / "man/flued.8.scd").read_text()
    for option in re.findall(r"--[a-z-]+", flued("--help").stdout):
        assert option in page
    for route in re.findall(r'"(/[^"]+)"', (TOP / "src/ctl/api_route.c").read_text()):
        assert route in page or route == "/", route
    page = (TOP / "man/flue.1.scd").read_text()
    for line in subprocess.run([BUILD / "cli/flue", "help"], capture_output=True, text=True).stdout.splitlines():
        command = re.match(r"  (port \w+|\w+) ", line)
        assert not command or f"*{command[1]}" in page, line
