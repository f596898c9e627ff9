# SPDX-License-Identifier: Apache-2.0
"""The life of a vhost-user connection: who connects, who leaves, what is renegotiated while frames flow."""

import os
import socket
import struct

import frames as F
import pytest
import vhost_user as vu
from flued import ApiError, Flued, sanitized
from guest import Guest
from guest_memory import Memory
from lan import exchange
from vring import wait_any
from wait import stays, wait_until

A, B, C = (F.mac(i) for i in range(1, 4))


# -- roles --


def test_listening_port_goes_through_its_states(switch):
    assert switch.add("vm1")["state"] == "waiting"
    guest = Guest(switch.socket_of("vm1"))
    guest.connect()
    switch.wait_state("vm1", "starting")
    guest.attach()
    guest.share_memory()
    guest.post()
    guest.start_pair()
    switch.wait_state("vm1", "up")
    guest.close()
    port = switch.wait_state("vm1", "waiting")
    assert port["reason"] == ""
    with guest:
        pass


def test_connecting_port_waits_for_its_front_end(switch, attach):
    b = attach("vm2")
    path = str(switch.run_dir / "qemu.sock")
    assert switch.add("vm1", role="connect", socket=path)["state"] == "waiting"
    stays(lambda: switch.port("vm1")["state"] == "waiting", "still waiting", for_s=0.3)
    with Guest(path, "listen").up() as a:
        switch.wait_state("vm1", "up")
        frame = F.sized(A, F.BROADCAST, 100)
        assert exchange(a, [frame], [b], A) == [[frame]]
    switch.wait_state("vm1", "waiting")
    with Guest(path, "listen").up() as a:  # the front end was started again
        assert exchange(b, [frame], [a], A) == [[frame]]


def test_connecting_port_takes_up_again_when_only_the_connection_breaks(switch, attach):
    b = attach("vm2")
    path = str(switch.run_dir / "qemu.sock")
    switch.add("vm1", role="connect", socket=path)
    with Guest(path, "listen").up() as a:
        for i in range(3):
            frame = F.numbered(A, F.BROADCAST, i)
            assert exchange(a, [frame], [b], A) == [[frame]]
            a.reconnect()


@pytest.mark.parametrize("role", ["listen", "connect"])
def test_flued_stops_and_starts_again_under_a_guest(start_flued, role):
    conf = {"ports": [{"name": "vm1", "role": role, "socket": None}, {"name": "vm2"}]}
    switch = start_flued({"ports": []})
    path = str(switch.run_dir / "one.sock")
    conf["ports"][0]["socket"] = path
    switch.stop()
    import yaml

    switch.config_path.write_text(yaml.safe_dump(conf))
    front_role = {"listen": "connect", "connect": "listen"}[role]
    with Guest(path, front_role) as a, Guest(str(switch.run_dir / "vm2.sock")) as b:
        switch.start()
        a.up()
        b.up()
        for round in range(2):
            switch.wait_state("vm1", "up")
            switch.wait_state("vm2", "up")
            frames = [F.numbered(A, F.BROADCAST, i) for i in range(50)]
            assert exchange(a, frames, [b], A) == [frames]
            if round == 0:
                switch.restart()
                a.reconnect()
                b.reconnect()


def test_a_killed_flued_resumes_the_rings_where_they_were(start_flued):
    """Frames that were waiting in the transmit ring are sent by the next flued, none twice; buffers stay posted."""
    switch = start_flued({"ports": [{"name": "vm1"}, {"name": "vm2"}]})
    with Guest(switch.socket_of("vm1")).up() as a, Guest(switch.socket_of("vm2")).up() as b:
        first = [F.numbered(A, F.BROADCAST, i) for i in range(300)]
        for i in range(0, 300, 50):
            a.send(first[i : i + 50])
            assert b.recv(50) == first[i : i + 50]
        a.wait_tx()
        switch.kill9()
        waiting = [F.numbered(A, F.BROADCAST, 1000 + i) for i in range(20)]
        a.send(waiting)
        switch.start()
        b.reconnect()
        switch.wait_state("vm2", "up")
        a.reconnect()
        assert b.recv(20) == waiting
        a.wait_tx()


def test_a_stale_socket_file_is_replaced_and_a_live_one_is_not(switch):
    path = str(switch.run_dir / "x.sock")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    switch.add("vm1", socket=path)
    with Guest(path).up():
        switch.wait_state("vm1", "up")
    with pytest.raises(ApiError) as refused:
        switch.add("vm2", socket=path)
    assert refused.value.status == 409
    other = Flued()
    try:
        with pytest.raises(ApiError) as refused:
            other.add("vm1", socket=path)
        assert refused.value.status == 409
    finally:
        other.close()


def test_the_socket_file_goes_with_the_port(switch):
    path = switch.add("vm1")["socket"]
    assert os.path.exists(path)
    switch.delete("vm1")
    assert not os.path.exists(path)


def test_a_second_front_end_does_not_disturb_the_first(switch, attach):
    a, b = attach("vm1"), attach("vm2")
    with Guest(switch.socket_of("vm1")) as intruder:
        intruder.connect()
        frame = F.sized(A, F.BROADCAST, 100)
        assert exchange(a, [frame], [b], A) == [[frame]]
    assert exchange(a, [frame], [b], A) == [[frame]]
    assert switch.port("vm1")["state"] == "up"


# -- no leaks --


def assert_not_grown(switch, rss, lives):
    """A port's rings and counters are tens of KiB, so a leak of one object in each life would show; what the allocator
    keeps for itself does not grow with their number. A sanitizer puts freed memory aside, and finds leaks by itself."""
    grown = switch.own_rss_bytes() - rss
    assert sanitized() or grown < 512 << 10, f"{grown} bytes more after {lives} lives"


def test_200_guests_come_and_go_and_leave_nothing_behind(switch, attach):
    b = attach("vm2")
    switch.add("vm1")
    path = switch.socket_of("vm1")
    frame = F.sized(A, F.BROADCAST, 100)

    def one_life():
        with Guest(path, size=64).up() as a:
            assert exchange(a, [frame], [b], A) == [[frame]]
        switch.wait_state("vm1", "waiting")

    for _ in range(20):  # allocators and libraries have warmed up
        one_life()
    fds, maps, rss = switch.n_fds(), len(switch.maps()), switch.own_rss_bytes()
    for _ in range(200):
        one_life()
    switch.wait_fds(fds)
    assert len(switch.maps()) == maps
    assert_not_grown(switch, rss, 200)


def test_ports_come_and_go_and_leave_nothing_behind(switch):
    def one_life():
        with Guest(switch.add("vm1", mac=A)["socket"]).up():
            switch.wait_state("vm1", "up")
            switch.delete("vm1")

    for _ in range(5):
        one_life()
    fds, maps, rss = switch.n_fds(), len(switch.maps()), switch.own_rss_bytes()
    for _ in range(50):
        one_life()
    switch.wait_fds(fds)
    assert len(switch.maps()) == maps
    assert_not_grown(switch, rss, 50)


def test_deleting_a_port_under_load_disturbs_nobody(switch, attach):
    a, b, c = (attach(name) for name in ("vm1", "vm2", "vm3"))
    for i in range(20):
        with Guest(switch.add("vm4")["socket"]).up() as d:
            d.send([F.numbered(F.mac(4), F.BROADCAST, k) for k in range(100)])
            a.send([F.numbered(A, F.BROADCAST, k) for k in range(50)])
            switch.delete("vm4")
        got = [f for f in b.recv(50) if f[6:12] == F.mac_bytes(A)]
        while len(got) < 50:
            got += [f for f in b.recv() if f[6:12] == F.mac_bytes(A)]
        assert [F.number_of(f) for f in got] == list(range(50))
        b.pending()
        c.pending()
        a.pending()


# -- negotiation --


def test_what_is_offered(switch):
    with Guest(switch.add("vm1", queues=3)["socket"]) as g:
        g.connect()
        g.attach()
        must = (
            vu.F_VERSION_1 | vu.F_PROTOCOL_FEATURES | vu.F_INDIRECT_DESC | vu.F_EVENT_IDX | vu.NET_F_MRG_RXBUF
            | vu.NET_F_MQ | vu.F_LOG_ALL | vu.NET_F_MTU | vu.F_RING_PACKED | vu.F_IN_ORDER
        )  # fmt: skip
        assert g.offered & must == must
        must = vu.PF_MQ | vu.PF_LOG_SHMFD | vu.PF_RARP | vu.PF_REPLY_ACK | vu.PF_NET_MTU
        assert g.offered_protocol & must == must
        assert g.queue_num() == 3


def test_cloud_hypervisor_counts_rings_and_not_pairs(switch):
    with Guest(switch.add("vm1", queues=3, front_end="cloud-hypervisor")["socket"]) as g:
        g.connect()
        g.negotiate(g.want, g.want_protocol)
        assert g.queue_num() == 6
        assert g.offered_protocol & vu.PF_CONFIG


def test_a_single_pair_is_not_multiqueue(switch):
    with Guest(switch.add("vm1", queues=1)["socket"]).up() as g:
        switch.wait_state("vm1", "up")
        assert g.queue_num() == 1


def test_the_offer_is_the_same_after_a_restart(start_flued):
    switch = start_flued({"ports": [{"name": "vm1"}]})
    offers = []
    for _ in range(2):
        with Guest(switch.socket_of("vm1")) as g:
            g.connect()
            g.attach()
            offers.append((g.offered, g.offered_protocol))
        switch.restart()
    assert offers[0] == offers[1]


def test_a_front_end_without_protocol_features(switch, attach):
    """Bit 30 not taken: rings are enabled from the start."""
    b = attach("vm2")
    with Guest(switch.add("vm1")["socket"], drop=vu.F_PROTOCOL_FEATURES | vu.NET_F_MQ).up() as a:
        switch.wait_state("vm1", "up")
        frame = F.sized(A, F.BROADCAST, 100)
        assert exchange(a, [frame], [b], A) == [[frame]]


def test_the_device_configuration(switch):
    """For front ends that ask the back end: MAC, link status, pairs, MTU (virtio 1.2, 5.1.4)."""
    protocol = vu.PF_CONFIG | vu.PF_REPLY_ACK | vu.PF_MQ
    port = switch.add("vm1", mac=A, mtu=1400, queues=2, front_end="cloud-hypervisor")
    with Guest(port["socket"], protocol=protocol) as g:
        g.connect()
        g.attach()
        answer = g.ask(vu.GET_CONFIG, struct.pack("=III", 0, 12, 0) + bytes(12))
        assert struct.unpack("=III", answer[:12])[:2] == (0, 12)
        mac, status, pairs, mtu = struct.unpack("<6sHHH", answer[12:24])
        assert (mac, status & 1, pairs, mtu) == (F.mac_bytes(A), 1, 2, 1400)


def test_a_new_mtu_is_announced_to_a_front_end_that_can_hear_it(switch):
    ours, theirs = socket.socketpair()
    protocol = vu.PF_CONFIG | vu.PF_REPLY_ACK | vu.PF_MQ | vu.PF_BACKEND_REQ
    port = switch.add("vm1", front_end="cloud-hypervisor")
    with ours, theirs, Guest(port["socket"], protocol=protocol).up() as g:
        g.tell(vu.SET_BACKEND_REQ_FD, b"", [theirs.fileno()])
        switch.set("vm1", mtu=9000)
        ours.settimeout(20)
        request, flags, size = struct.unpack("=III", ours.recv(12))
        assert (request, flags & 3, size) == (vu.BACKEND_CONFIG_CHANGE, 1, 0)
        g.stop_rings()
        switch.set("vm1", mtu=1500)  # all rings stopped: a suspended back end says nothing of its own
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.recv(12)


def test_the_mtu_a_front_end_asks_for(switch):
    with Guest(switch.add("vm1", mtu=1500)["socket"]) as g:
        g.connect()
        g.attach()
        g.tell(vu.NET_SET_MTU, vu.u64(1500))
        g.tell(vu.NET_SET_MTU, vu.u64(1280))
        for refused in (1501, 67, 0, 1 << 32):
            with pytest.raises(vu.Refused):
                g.tell(vu.NET_SET_MTU, vu.u64(refused))
        g.sync()


def test_send_rarp_tells_everybody_else_where_the_guest_is_now(switch, attach):
    a, b, c = (attach(name) for name in ("vm1", "vm2", "vm3"))
    exchange(c, [], [a, b], A)  # learned at the old place
    b.tell(vu.SEND_RARP, F.mac_bytes(A).ljust(8, b"\0"))
    from scapy.all import ARP, Ether

    for other in (a, c):
        frame = Ether(other.recv()[0])
        assert (frame.src, frame.dst, frame.type) == (A, F.BROADCAST, 0x8035)
        rarp = ARP(bytes(frame.payload))
        assert (rarp.op, rarp.hwsrc, rarp.hwdst) == (3, A, A)
    assert b.pending() == []
    assert switch.fdb()[(A, 1)]["port"] == "vm2"


# -- while it runs --


def test_get_vring_base_stops_and_says_where(switch, attach):
    a, b = attach("vm1"), attach("vm2")
    frames = [F.numbered(A, F.BROADCAST, i) for i in range(37)]
    a.send(frames)
    assert b.recv(37) == frames
    a.wait_tx()
    assert a.stop_ring(1) == 37
    assert a.stop_ring(0) == 0
    switch.wait_state("vm1", "starting")
    later = F.numbered(A, F.BROADCAST, 99)
    a.send([later])
    a.tx_ring().kick()
    stays(lambda: b.rx_ring().ready() == 0, "nothing moves while the ring is stopped", for_s=0.2)
    a.start_ring(0, a.bases[0])
    a.start_ring(1, a.bases[1])
    assert b.recv() == [later]


def test_stopping_in_the_middle_loses_and_repeats_nothing(switch, attach):
    """20 times stopped while frames flow, in both directions."""
    a, b = attach("vm1"), attach("vm2")
    number, got = 0, []
    for _ in range(20):
        a.send([F.numbered(A, F.BROADCAST, number + i) for i in range(100)])
        number += 100
        base = a.stop_ring(1)
        assert base == a.tx_ring().used16[1], "what was taken was also given back"
        a.start_ring(1, base)
        got += b.recv(100)
        a.wait_tx()
    assert [F.number_of(f) for f in got] == list(range(number))


def test_a_resumed_ring_goes_by_its_used_index_whatever_base_comes(switch, attach):
    """Some front ends send the avail index: then buffers that are still posted must not be skipped."""
    a, b = attach("vm1"), attach("vm2")
    frames = [F.numbered(A, F.BROADCAST, i) for i in range(10)]
    assert exchange(a, frames, [b], A) == [frames]
    b.stop_ring(0)
    b.start_ring(0, b.rx_ring().next_avail)
    assert exchange(a, frames, [b], A) == [frames]


def test_a_new_call_descriptor_loses_no_interrupt(attach):
    """Swapped all the time, as when a guest masks its vectors. What went to the old one may have reached nobody, so the
    new one is signalled; and what comes later goes there as well."""
    a, b = attach("vm1"), attach("vm2")
    ring = b.rx_ring()
    for i in range(100):
        ring.interrupts_on()
        a.send([F.numbered(A, F.BROADCAST, i)])
        if i % 2:
            wait_until(lambda: ring.ready(), "the frame, and its interrupt to the old descriptor")
        old = ring.call_fd
        ring.call_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        b.vring_fd(vu.SET_VRING_CALL, 0, ring.call_fd)
        os.close(old)
        wait_until(ring.interrupted, "an interrupt on the new descriptor")
        assert [F.number_of(f) for f in b.recv()] == [i]
        ring.interrupted()
        ring.interrupts_on()
        a.send([F.numbered(A, F.BROADCAST, i)])
        wait_until(ring.interrupted, "the interrupt for the next frame")
        b.recv()


def test_memory_may_be_replaced_while_the_guest_runs(switch, attach):
    """A guest gets and loses a memory region (hotplug): rings stay, frames go on, the old one is released."""
    a, b = attach("vm1"), attach("vm2")
    extra = Memory([(1 << 32, 1 << 20)])
    maps = len(switch.maps())
    for i in range(10):
        frame = F.numbered(A, F.BROADCAST, i)
        a.set_mem_table(a.memory.regions + extra.regions)
        assert exchange(a, [frame], [b], A) == [[frame]]
        assert len(switch.maps()) == maps + 1
        a.set_mem_table(a.memory.regions)
        assert exchange(b, [frame], [a], B) == [[frame]]
        assert len(switch.maps()) == maps
    extra.close()


def test_slots_come_and_go_while_the_guest_runs(switch, attach):
    a, b = attach("vm1"), attach("vm2")
    assert a.ask_u64(vu.GET_MAX_MEM_SLOTS) >= 32
    extra = Memory([((i + 1) << 32, 1 << 20) for i in range(20)])
    maps = len(switch.maps())
    for region in extra.regions:
        a.add_mem_reg(region)
    frame = F.sized(A, F.BROADCAST, 500)
    assert exchange(a, [frame], [b], A) == [[frame]]
    assert len(switch.maps()) == maps + 20
    gpa = extra.regions[7].gpa + 4096
    data = bytes(12) + frame
    extra.write(gpa, data)
    ring = a.tx_ring()
    ring.add([(gpa, len(data))])
    ring.publish()
    assert b.recv() == [frame]
    a.wait_tx()
    for region in extra.regions:
        a.rem_mem_reg(region)
    assert exchange(a, [frame], [b], A) == [[frame]]
    assert len(switch.maps()) == maps
    extra.close()


def test_a_device_reset_starts_over(switch, attach):
    """As when the guest's driver is loaded again: rings stopped, indices back to zero."""
    a, b = attach("vm1"), attach("vm2")
    for i in range(5):
        frames = [F.numbered(A, F.BROADCAST, i * 100 + k) for k in range(70)]
        assert exchange(a, frames, [b], A) == [frames]
        a.wait_tx()
        a.stop_rings()
        a.tell(vu.RESET_DEVICE) if a.protocol & vu.PF_RESET_DEVICE else None
        for ring in a.rings:
            ring.reset()
        a.slots = [{}]
        a.set_features()
        a.post()
        a.start_pair()
        switch.wait_state("vm1", "up")


def test_interrupts_reach_a_guest_that_slept_through_the_restart_of_its_ring(attach):
    a, b = attach("vm1"), attach("vm2")
    ring = b.rx_ring()
    for i in range(20):
        b.collect()
        b.stop_ring(0)
        ring.interrupts_on()
        b.start_ring(0, b.bases[0])
        a.send([F.numbered(A, F.BROADCAST, i)])
        assert wait_any([ring], 20), "no interrupt"
        assert len(b.recv()) == 1
