/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/types.h>

#include "port/offload.h"

/* Frames as the kernel takes and gives them through a tap interface or a packet socket: in one piece, behind a
 * virtio-net header of NET_HDR_SHORT bytes.
 *
 * Thread: any worker.
 * Trust:  the kernel, which has verified what it calls valid. Who sits at the other end of a virtual cable may have told it
 *         what it liked about the rest, so that is checked.
 */

/* Take over what the kernel says of @f; as offload_take(). */
enum drop_reason kernel_frame_take(struct frame *f, const struct net_hdr *h) must_check;

/* Write a frame, and what is left to do of it, with one system call. Negative: errno tells, as after writev(). */
ssize_t kernel_frame_write(int fd, const struct frame *f) must_check;
