/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "ctl/conf.h"
#include "port/frame.h"

/* The words of the port key `offloads_off`, and what they mean to each kind of port.
 *
 * Thread: control.
 */

/* What is switched off: the OFFLOAD_* that its sender may not leave undone, and beside them: */
#define OFF_TO_GUEST(offloads) ((uint32_t)(offloads) << 8) /* the OFFLOAD_* that a guest is not offered to receive */
#define OFF_MRG_RXBUF          (UINT32_C(1) << 16)         /* several receive buffers for one frame */
#define OFF_MTU                (UINT32_C(1) << 17)         /* telling the guest's driver the MTU */

/* A list of words between commas or spaces, for a port of kind @k. `all` is every checksum and segmentation word; `uso`
 * and `guest_uso` stand for both versions of IP. -EINVAL: *e says what is wrong, and which words there are. */
int offloads_parse(const char *text, enum conf_kind k, uint32_t *off, struct err *e) must_check;
/* As shown, which offloads_parse() takes: "csum tso4 uso", "all"; "" for none. Returns @text. */
#define OFFLOADS_TEXT_BYTES 160 /* all words, with the final zero */
const char *offloads_format(uint32_t off, enum conf_kind k, char text[OFFLOADS_TEXT_BYTES]);

/* For a guest's device: FEATURE() bits never to be offered. For an interface: the OFFLOAD_* it is not to be used for, with
 * those that need one of them. */
uint64_t offloads_never(uint32_t off);
uint32_t offloads_unused(uint32_t off);
