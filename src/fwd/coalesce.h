/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "fwd/fwd.h"

/* Receive coalescing: segments of TCP connections, received together from a wire, become super-frames for a port that
 * takes them. Private to fwd.
 *
 * Thread: any worker, each with frames and room of its own.
 * Delay:  none; a run is made of frames of one batch. What may be merged: wire/merge.h. A segment whose checksum nobody
 *         has verified is verified here, for cutting would give it a good one.
 */

/* Merge what can be merged of the @n frames in @list, which go to one port that takes @takes (OFFLOAD_*), and nowhere
 * else. Returns how many frames are left in the list. Merged bodies are made of @room, until the frames are sent. Hot. */
unsigned coalesce(struct frame **list, unsigned n, uint32_t takes, struct wire_piece room[FWD_MERGED_PIECES]);
