# SPDX-License-Identifier: Apache-2.0
"""The state file: what a flued that was stopped or killed leaves to the next one, and what becomes of a bad one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import frames as F
import pytest
import state_file
import vhost_user as vu
from flued import Flued
from guest import Guest
from lan import exchange
from netns import run
from wait import wait_until

A = F.mac(1)
CONF = {"ports": [{"name": "vm1"}, {"name": "vm2"}]}
FEWER = vu.NET_F_MQ | vu.F_EVENT_IDX  # taken out of what was offered
FEWER_PROTOCOL = vu.PF_STATUS


def state_path(switch):
    return switch.run_dir / "flued.state"


def ask(path):
    """What a front end is offered."""
    front = vu.FrontEnd(path).connect()
    try:
        return front.ask_u64(vu.GET_FEATURES), front.ask_u64(vu.GET_PROTOCOL_FEATURES)
    finally:
        front.close()


def kill(switch):
    switch.kill9()


def stop(switch):
    switch.stop()


def promise_fewer(switch, name="vm1"):
    """Between two lives: an earlier flued had offered less to the guest of port @name."""
    kept = state_file.read(state_path(switch))[name]
    kept["offered"] &= ~FEWER
    kept["acked"] &= ~FEWER
    kept["protocol_offered"] &= ~FEWER_PROTOCOL
    state_file.write(state_path(switch), name, kept)
    return kept


# -- promises --


@pytest.mark.parametrize("end", [stop, kill])
def test_a_guest_that_comes_back_is_offered_what_it_was(start_flued, end):
    switch = start_flued(CONF)
    with Guest(switch.socket_of("vm1")).up() as a, Guest(switch.socket_of("vm2")).up() as b:
        switch.wait_state("vm1", "up")
        offered, offered_protocol = a.offered, a.offered_protocol
        kept = state_file.read(state_path(switch))["vm1"]
        assert (kept["offered"], kept["protocol_offered"]) == (offered, offered_protocol)
        assert (kept["acked"], kept["bound"], kept["peer_pid"]) == (a.features, 1, os.getpid())
        end(switch)
        kept = promise_fewer(switch)
        switch.start()
        a.reconnect()
        b.reconnect()
        for name in ("vm1", "vm2"):
            switch.wait_state(name, "up")
        assert (a.offered, a.offered_protocol) == (offered & ~FEWER, offered_protocol & ~FEWER_PROTOCOL)
        assert (b.offered, b.offered_protocol) == (offered, offered_protocol)
        frames = [F.numbered(A, F.BROADCAST, i) for i in range(50)]
        assert exchange(a, frames, [b], A) == [frames]
        # Once it has stopped its device, all that this flued knows is offered.
        a.stop_rings()
    assert wait_until(lambda: ask(switch.socket_of("vm1")) == (offered, offered_protocol), "everything")


def test_another_front_end_is_offered_everything(start_flued):
    """The guest's process was killed together with flued: what comes next is a new guest."""
    switch = start_flued(CONF)
    everything = ask(switch.socket_of("vm1"))
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from guest import Guest\n"
        "Guest(sys.argv[2]).up(); print('up', flush=True); time.sleep(60)"
    )
    lib = str(Path(__file__).resolve().parents[1] / "lib")
    other = subprocess.Popen([sys.executable, "-c", script, lib, switch.socket_of("vm1")], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"up\n"
        kill(switch)
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert state_file.read(state_path(switch))["vm1"]["peer_pid"] == other.pid
    promise_fewer(switch)
    switch.start()
    assert ask(switch.socket_of("vm1")) == everything


def test_a_feature_that_is_gone_is_said(start_flued):
    switch = start_flued(CONF)
    with Guest(switch.socket_of("vm1")).up() as a:
        switch.wait_state("vm1", "up")
        kill(switch)
        kept = state_file.read(state_path(switch))["vm1"]
        kept["offered"] |= 1 << 60
        kept["acked"] |= 1 << 60
        kept["pairs"] = 16
        state_file.write(state_path(switch), "vm1", kept)
        switch.start()
        a.reconnect()
        switch.wait_state("vm1", "up")
    assert "vm1.sock: features 0x1000000000000000 and protocol features 0x0 were offered to this guest" in switch.log()
    assert "vm1.sock: this guest was offered 16 queue pairs, now there are" in switch.log()


# -- ports --


def test_a_deleted_port_is_forgotten_and_others_are_not(switch, attach):
    attach("vm1")
    attach("vm2")
    switch.add("vm3")  # nobody has ever connected
    assert sorted(state_file.read(state_path(switch))) == ["vm1", "vm2"]
    switch.delete("vm1")
    assert sorted(state_file.read(state_path(switch))) == ["vm2"]
    switch.stop()
    assert sorted(state_file.read(state_path(switch))) == ["vm2"]
    switch.start()
    assert sorted(state_file.read(state_path(switch))) == ["vm2"]


def test_a_port_made_through_the_api_is_found_again(switch):
    path = switch.add("vm1")["socket"]
    with Guest(path).up() as a:
        switch.wait_state("vm1", "up")
        kill(switch)
        promise_fewer(switch)
        switch.start()
        switch.add("vm1")
        a.reconnect()
        switch.wait_state("vm1", "up")
        assert not a.offered & FEWER
        switch.delete("vm1")
    switch.add("vm1")
    assert ask(path)[0] & FEWER == FEWER


# -- a file that cannot be used --


def starts_anew(switch, says):
    """flued starts and serves; it says of its file what @says."""
    switch.start()
    assert says in switch.log(), switch.log()
    with Guest(switch.socket_of("vm1")).up():
        switch.wait_state("vm1", "up")


def test_garbage_is_set_aside(start_flued):
    switch = start_flued(CONF)
    switch.stop()
    state_path(switch).write_bytes(b"garbage" * 1000)
    starts_anew(switch, f"warning: {state_path(switch)} cannot be used: it is no state file: set aside as {state_path(switch)}.bad")
    assert Path(f"{state_path(switch)}.bad").read_bytes() == b"garbage" * 1000
    assert list(state_file.read(state_path(switch))) == ["vm1"]
    switch.restart()
    assert "cannot be used" not in switch.log()


def test_a_cut_file_is_set_aside(start_flued):
    switch = start_flued(CONF)
    switch.stop()
    os.truncate(state_path(switch), 70000)
    starts_anew(switch, f"it has 70000 bytes instead of {state_file.FILE_BYTES}")


def test_a_damaged_port_is_dropped_and_the_others_kept(start_flued):
    switch = start_flued(CONF)
    with Guest(switch.socket_of("vm1")).up(), Guest(switch.socket_of("vm2")).up():
        switch.wait_state("vm2", "up")
    switch.stop()
    assert sorted(state_file.read(state_path(switch))) == ["vm1", "vm2"]
    with open(state_path(switch), "r+b") as file:
        file.seek(state_file.PAGE)
        file.write(b"x" * 2 * state_file.RECORD.size)
    switch.start()
    assert "the records of 1 ports are damaged: dropped, the others are kept" in switch.log()
    assert list(state_file.read(state_path(switch))) == ["vm2"]


def test_a_symbolic_link_is_not_followed(start_flued, tmp_path):
    switch = start_flued(CONF)
    switch.stop()
    precious = tmp_path / "precious"
    precious.write_text("precious")
    state_path(switch).unlink()
    state_path(switch).symlink_to(precious)
    starts_anew(switch, f"warning: nothing is kept, guests may lose their link for good if flued ends: {state_path(switch)} is a symbolic link")
    assert precious.read_text() == "precious"


def test_a_directory_in_its_place_is_left_alone(start_flued):
    switch = start_flued(CONF)
    switch.stop()
    state_path(switch).unlink()
    state_path(switch).mkdir()
    starts_anew(switch, f"cannot open {state_path(switch)}: Is a directory")
    switch.stop()
    state_path(switch).rmdir()
    switch.start()


# -- running out of room, and losing it --


def test_a_full_file_system_costs_the_slot_and_no_more(tmp_path):
    mounted = tmp_path / "small"
    mounted.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k", "none", str(mounted))
    switch = None
    try:
        switch = Flued(args=["--run-dir", str(mounted)], start=False)
        switch.api_path = str(mounted / "api.sock")
        switch.start()
        switch.add("vm1")
        with open(mounted / "filler", "wb", buffering=0) as filler:
            while True:
                try:
                    filler.write(bytes(1024))
                except OSError:
                    break
        with Guest(switch.add("vm2")["socket"]).up() as b, Guest(switch.socket_of("vm1")).up() as a:
            switch.wait_state("vm1", "up")
            switch.wait_state("vm2", "up")
            frames = [F.numbered(A, F.BROADCAST, i) for i in range(50)]
            assert exchange(a, frames, [b], A) == [frames]
        assert "no room for port vm2, its guest may lose its link if flued dies: No space left on device" in switch.log()
        assert list(state_file.read(mounted / "flued.state")) == ["vm1"]
    finally:
        if switch:
            switch.close()
        run("umount", str(mounted))


def test_truncating_it_under_flued_harms_no_guest(switch, attach):
    a, b = attach("vm1"), attach("vm2")
    os.truncate(state_path(switch), 0)
    a.reconnect()
    frames = [F.numbered(A, F.BROADCAST, i) for i in range(50)]
    assert exchange(a, frames, [b], A) == [frames]
    switch.add("vm3")
    assert f"{state_path(switch)} was truncated: nothing is kept any more" in switch.log()
    switch.process.send_signal(signal.SIGTERM)
    assert switch.wait_exit() == 0
    switch.start()
    with Guest(switch.add("vm1")["socket"]).up():
        assert list(state_file.read(state_path(switch))) == ["vm1"]
