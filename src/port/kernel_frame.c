/* SPDX-License-Identifier: Apache-2.0 */
#include "port/kernel_frame.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#define PIECES_MAX 1024 /* of one writev(); IOV_MAX */

enum drop_reason kernel_frame_take(struct frame *f, const struct net_hdr *h)
{
	struct net_hdr checked = *h;
	enum drop_reason reason;

	/* What a NIC has verified and merged (LRO): whoever cuts it makes the checksums anew. */
	if (h->gso_type != NET_HDR_GSO_NONE && h->flags & NET_HDR_F_DATA_VALID)
		checked.flags |= NET_HDR_F_NEEDS_CSUM;
	reason = offload_take(f, &checked, OFFLOAD_ALL);
	if (reason == DROP_N && net_hdr_is_plain(h))
		f->off.flags |= h->flags & NET_HDR_F_DATA_VALID;
	return reason;
}

/* More pieces than writev() takes: only from a guest that cuts its frames to crumbs. */
static __attribute__((noinline)) ssize_t write_crumbs(int fd, const struct net_hdr *h, const struct frame *f)
{
	uint8_t whole[NET_HDR_SHORT + FRAME_BYTES_MAX + VLAN_TAG_BYTES];
	uint32_t len = NET_HDR_SHORT;

	if (f->len > sizeof(whole) - len) {
		errno = EMSGSIZE;
		return -1;
	}
	memcpy(whole, h, len);
	memcpy(whole + len, f->data, f->head_len);
	len += f->head_len;
	for (unsigned i = 0; i < f->n_body; i++) {
		memcpy(whole + len, f->body[i].p, f->body[i].len);
		len += f->body[i].len;
	}
	return write(fd, whole, len);
}

ssize_t kernel_frame_write(int fd, const struct frame *f)
{
	struct iovec iov[PIECES_MAX];
	struct net_hdr h;

	offload_put(f, false, &h);
	if (unlikely(f->n_body + 2u > PIECES_MAX))
		return write_crumbs(fd, &h, f);
	iov[0] = (struct iovec){.iov_base = &h, .iov_len = NET_HDR_SHORT};
	iov[1] = (struct iovec){.iov_base = f->data, .iov_len = f->head_len};
	for (unsigned i = 0; i < f->n_body; i++)
		iov[i + 2] = (struct iovec){.iov_base = (void *)f->body[i].p, .iov_len = f->body[i].len};
	return writev(fd, iov, f->n_body + 2);
}
