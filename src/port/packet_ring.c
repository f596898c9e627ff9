/* SPDX-License-Identifier: Apache-2.0 */
/* Packet sockets and the rings they share with the kernel (Documentation/networking/packet_mmap.rst), version 2:
 * version 3 hands over blocks of frames, when they are full or after a timeout, and that is latency.
 *
 * One socket to receive, with a virtio-net header before each frame (PACKET_VNET_HDR), because frames of this host come
 * with unfinished checksums and uncut. Two to send. Finished frames go through a ring, by a socket without that header, so
 * the kernel itself refuses what is too long for the interface. Those to be cut have no room in a slot and go one by one,
 * with a header, by the other: packet_tx.c.
 *
 * Memory: rings are pinned, so they are kept at 4 + 2 MiB whatever the MTU; they are about a millisecond deep at
 * 10 Gbit/s.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "port/packet_priv.h"

#define PAGE            4096u
#define RX_RING_BYTES   (4u << 20)
#define TX_RING_BYTES   (2u << 20)
#define RX_SLOTS_MAX    1024u
#define TX_SLOTS_MAX    512u
#define SLOT_HEAD_BYTES 96u       /* before the frame: the slot's header, addresses, virtio-net header, alignment */
#define RX_QUEUE_BYTES  (2 << 20) /* of long frames that wait for packet_rx.c to fetch them */
#define TX_QUEUE_BYTES  (1 << 20) /* of frames to be cut that the interface has not sent yet */
#define TX_SKB_BYTES    1024u     /* what the kernel charges for a frame beside its slot */

static uint32_t round_up(uint32_t v, uint32_t to)
{
	return (v + to - 1) / to * to;
}

/* The smallest slot of 2 KiB, 4 KiB or whole pages. Slots of that size follow each other without gaps between blocks. */
static uint32_t slot_bytes_for(unsigned mtu)
{
	uint32_t need = SLOT_HEAD_BYTES + mtu + ETH_HEAD_BYTES + VLAN_TAG_BYTES;

	return need <= PAGE / 2 ? PAGE / 2 : round_up(need, PAGE);
}

/* What the kernel allocates for a block: a power of two of pages. */
static uint32_t allocated_bytes(uint32_t block_bytes)
{
	uint32_t bytes = PAGE;

	while (bytes < block_bytes)
		bytes *= 2;
	return bytes;
}

bool packet_ring_suits(const struct packet_ring *r, unsigned mtu)
{
	return r->slot_bytes == slot_bytes_for(mtu);
}

static void ring_plan(struct packet_ring *r, struct tpacket_req *req, unsigned mtu, uint32_t ring_bytes, uint32_t n_max)
{
	uint32_t slot = slot_bytes_for(mtu);
	uint32_t block = slot > PAGE ? slot : 16 * PAGE;
	uint32_t blocks = min_u32(ring_bytes / allocated_bytes(block), n_max / (block / slot));

	*req = (struct tpacket_req){
		.tp_block_size = block,
		.tp_block_nr = blocks,
		.tp_frame_size = slot,
		.tp_frame_nr = blocks * (block / slot),
	};
	*r = (struct packet_ring){.slot_bytes = slot, .n = req->tp_frame_nr, .map_bytes = (size_t)block * blocks};
}

static int ring_open(struct packet_ring *r, int fd, int option, unsigned mtu, uint32_t ring_bytes, uint32_t n_max)
{
	struct tpacket_req req;

	ring_plan(r, &req, mtu, ring_bytes, n_max);
	if (setsockopt(fd, SOL_PACKET, option, &req, sizeof(req)))
		return -errno;
	r->map = mmap(NULL, r->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (r->map != MAP_FAILED)
		return 0;
	r->map = NULL;
	return -errno;
}

static void ring_close(struct packet_ring *r)
{
	if (r->map)
		munmap(r->map, r->map_bytes);
}

static int set_option(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) ? -errno : 0;
}

/* Not bound: nothing is received yet. */
static int socket_open(void)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return -errno;
	err = set_option(fd, SOL_PACKET, PACKET_VERSION, TPACKET_V2);
	if (!err)
		return fd;
	close(fd);
	return err;
}

/* @protocol: what to receive, in network byte order. */
static int socket_bind(int fd, int index, uint16_t protocol)
{
	struct sockaddr_ll addr = {.sll_family = AF_PACKET, .sll_ifindex = index, .sll_protocol = protocol};

	return bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ? -errno : 0;
}

static int promiscuous(int fd, int index)
{
	struct packet_mreq member = {.mr_ifindex = index, .mr_type = PACKET_MR_PROMISC};

	return setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &member, sizeof(member)) ? -errno : 0;
}

int packet_rx_bind(struct packet_rx *rx, int index)
{
	int err = promiscuous(rx->fd, index);

	return err ? err : socket_bind(rx->fd, index, htons(ETH_P_ALL));
}

int packet_tx_bind(struct packet_tx *tx, int index)
{
	int err = socket_bind(tx->fd, index, 0);

	return err ? err : socket_bind(tx->long_fd, index, 0);
}

static int open_error(int err, struct err *e)
{
	if (err == -EPERM)
		return err_set(e, err, "ifname", "run flued as root, or give it CAP_NET_RAW and CAP_NET_ADMIN",
			       "not allowed to open packet sockets");
	return err_set(e, err, "ifname", NULL, "cannot open packet sockets: %s", strerror(-err));
}

static int rx_setup(struct packet_rx *rx, unsigned mtu)
{
	int err;

	rx->fd = socket_open();
	if (rx->fd < 0)
		return rx->fd;
	/* The header must be chosen before the ring is made. COPY_THRESH: any value but 0 says that frames longer than
	 * their slot are wanted whole. */
	if ((err = set_option(rx->fd, SOL_PACKET, PACKET_VNET_HDR, 1)) ||
	    (err = set_option(rx->fd, SOL_PACKET, PACKET_COPY_THRESH, 1)) ||
	    (err = set_option(rx->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)) ||
	    (err = set_option(rx->fd, SOL_SOCKET, SO_RCVBUFFORCE, RX_QUEUE_BYTES)) ||
	    (err = ring_open(&rx->ring, rx->fd, PACKET_RX_RING, mtu, RX_RING_BYTES, RX_SLOTS_MAX)))
		return err;
	rx->longs = malloc(PACKET_LONG_N * PACKET_LONG_BYTES);
	return rx->longs ? 0 : -ENOMEM;
}

int packet_rx_open(struct packet_rx **rx, unsigned mtu, struct err *e)
{
	int err;

	*rx = calloc(1, sizeof(**rx));
	err = *rx ? rx_setup(*rx, mtu) : -ENOMEM;
	if (!err)
		return 0;
	packet_rx_close(*rx);
	*rx = NULL;
	return open_error(err, e);
}

uint32_t packet_tx_slot_max(const struct packet_tx *tx)
{
	return tx->ring.slot_bytes - PACKET_TX_DATA_OFF;
}

/* The socket for frames to be cut. It does not bypass the queueing discipline: the kernel then cuts what the interface
 * cannot, and would else drop it. */
static int tx_setup_long(struct packet_tx *tx)
{
	int err;

	tx->long_fd = socket_open();
	if (tx->long_fd < 0)
		return tx->long_fd;
	err = set_option(tx->long_fd, SOL_PACKET, PACKET_VNET_HDR, 1);
	return err ? err : set_option(tx->long_fd, SOL_SOCKET, SO_SNDBUFFORCE, TX_QUEUE_BYTES);
}

static int tx_setup(struct packet_tx *tx, unsigned mtu)
{
	int err = tx_setup_long(tx);

	if (err)
		return err;
	tx->fd = socket_open();
	if (tx->fd < 0)
		return tx->fd;
	if ((err = set_option(tx->fd, SOL_PACKET, PACKET_QDISC_BYPASS, 1)) ||
	    (err = ring_open(&tx->ring, tx->fd, PACKET_TX_RING, mtu, TX_RING_BYTES, TX_SLOTS_MAX)))
		return err;
	tx->frame_max = packet_tx_slot_max(tx);
	/* The ring is the limit, not the socket's account. */
	return set_option(tx->fd, SOL_SOCKET, SO_SNDBUFFORCE, (int)(tx->ring.n * (tx->ring.slot_bytes + TX_SKB_BYTES)));
}

int packet_tx_open(struct packet_tx **tx, unsigned mtu, struct err *e)
{
	int err = -ENOMEM;

	*tx = aligned_alloc(_Alignof(struct packet_tx), sizeof(**tx));
	if (*tx) {
		**tx = (struct packet_tx){.fd = -1, .long_fd = -1};
		err = tx_setup(*tx, mtu);
	}
	if (!err)
		return 0;
	packet_tx_close(*tx);
	*tx = NULL;
	return open_error(err, e);
}

uint32_t packet_rx_lost(struct packet_rx *rx)
{
	struct tpacket_stats stats;
	socklen_t size = sizeof(stats);

	return getsockopt(rx->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) ? 0 : stats.tp_drops;
}

void packet_rx_close(struct packet_rx *rx)
{
	if (!rx)
		return;
	ring_close(&rx->ring);
	if (rx->fd >= 0)
		close(rx->fd);
	free(rx->longs);
	free(rx);
}

void packet_tx_close(struct packet_tx *tx)
{
	if (!tx)
		return;
	ring_close(&tx->ring);
	if (tx->fd >= 0)
		close(tx->fd);
	if (tx->long_fd >= 0)
		close(tx->long_fd);
	free(tx);
}
