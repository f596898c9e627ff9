/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/conf_offload.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SEPARATORS ", "
#define BOTH_USO   (OFFLOAD_USO4 | OFFLOAD_USO6)

/* In the order they are shown. Of two words that mean the same bits, or some of them, the one with more comes first. */
static const struct word {
	const char *name;
	uint32_t off;
	bool guest_only;
} words[] = {
	{"csum", OFFLOAD_CSUM, false},
	{"tso4", OFFLOAD_TSO4, false},
	{"tso6", OFFLOAD_TSO6, false},
	{"ecn", OFFLOAD_ECN, false},
	{"uso", BOTH_USO, false},
	{"uso4", OFFLOAD_USO4, false},
	{"uso6", OFFLOAD_USO6, false},
	{"guest_csum", OFF_TO_GUEST(OFFLOAD_CSUM), true},
	{"guest_tso4", OFF_TO_GUEST(OFFLOAD_TSO4), true},
	{"guest_tso6", OFF_TO_GUEST(OFFLOAD_TSO6), true},
	{"guest_ecn", OFF_TO_GUEST(OFFLOAD_ECN), true},
	{"guest_uso", OFF_TO_GUEST(BOTH_USO), true},
	{"guest_uso4", OFF_TO_GUEST(OFFLOAD_USO4), true},
	{"guest_uso6", OFF_TO_GUEST(OFFLOAD_USO6), true},
	{"mrg_rxbuf", OFF_MRG_RXBUF, true},
	{"mtu", OFF_MTU, true},
};

static uint32_t all_of(enum conf_kind k)
{
	return k == CONF_GUEST ? OFFLOAD_ALL | OFF_TO_GUEST(OFFLOAD_ALL) : OFFLOAD_ALL;
}

static int unknown_word(const char *word, size_t len, enum conf_kind k, struct err *e)
{
	char remedy[sizeof(e->remedy)];
	size_t at = (size_t)snprintf(remedy, sizeof(remedy), "the words are all");

	for (size_t i = 0; i < ARRAY_SIZE(words) && at < sizeof(remedy); i++)
		if (k == CONF_GUEST || !words[i].guest_only)
			at += (size_t)snprintf(remedy + at, sizeof(remedy) - at, " %s", words[i].name);
	return err_set(e, -EINVAL, "offloads_off", remedy, "'%.*s' is not an offload of a port of kind %s",
		       (int)min_u32((uint32_t)len, 40), word, conf_kind_name(k));
}

/* The word's bits; 0: there is no such word. */
static uint32_t word_read(const char *word, size_t len, enum conf_kind k)
{
	if (len == 3 && !strncmp(word, "all", len))
		return all_of(k);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strlen(words[i].name) == len && !strncmp(words[i].name, word, len))
			return k == CONF_GUEST || !words[i].guest_only ? words[i].off : 0;
	return 0;
}

int offloads_parse(const char *text, enum conf_kind k, uint32_t *off, struct err *e)
{
	uint32_t read = 0;

	for (const char *p = text + strspn(text, SEPARATORS); *p; p += strspn(p, SEPARATORS)) {
		size_t len = strcspn(p, SEPARATORS);
		uint32_t bits = word_read(p, len, k);

		if (!bits)
			return unknown_word(p, len, k, e);
		read |= bits;
		p += len;
	}
	/* A guest's driver leaves UDP uncut for both or for neither: HOST_USO is one bit. */
	if (k == CONF_GUEST && read & BOTH_USO)
		read |= BOTH_USO;
	*off = read;
	return 0;
}

static size_t append(char *text, size_t at, const char *word)
{
	return at + (size_t)snprintf(text + at, OFFLOADS_TEXT_BYTES - at, "%s%s", at ? " " : "", word);
}

const char *offloads_format(uint32_t off, enum conf_kind k, char text[OFFLOADS_TEXT_BYTES])
{
	size_t at = 0;

	text[0] = 0;
	if ((off & all_of(k)) == all_of(k)) {
		at = append(text, at, "all");
		off &= ~all_of(k);
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if ((off & words[i].off) != words[i].off)
			continue;
		at = append(text, at, words[i].name);
		off &= ~words[i].off;
	}
	return text;
}

uint64_t offloads_never(uint32_t off)
{
	static const struct {
		uint32_t off;
		unsigned bit;
	} feature[] = {
		{OFFLOAD_CSUM, VIRTIO_NET_F_CSUM},
		{OFFLOAD_TSO4, VIRTIO_NET_F_HOST_TSO4},
		{OFFLOAD_TSO6, VIRTIO_NET_F_HOST_TSO6},
		{OFFLOAD_ECN, VIRTIO_NET_F_HOST_ECN},
		{BOTH_USO, VIRTIO_NET_F_HOST_USO},
		{OFF_TO_GUEST(OFFLOAD_CSUM), VIRTIO_NET_F_GUEST_CSUM},
		{OFF_TO_GUEST(OFFLOAD_TSO4), VIRTIO_NET_F_GUEST_TSO4},
		{OFF_TO_GUEST(OFFLOAD_TSO6), VIRTIO_NET_F_GUEST_TSO6},
		{OFF_TO_GUEST(OFFLOAD_ECN), VIRTIO_NET_F_GUEST_ECN},
		{OFF_TO_GUEST(OFFLOAD_USO4), VIRTIO_NET_F_GUEST_USO4},
		{OFF_TO_GUEST(OFFLOAD_USO6), VIRTIO_NET_F_GUEST_USO6},
		{OFF_MRG_RXBUF, VIRTIO_NET_F_MRG_RXBUF},
		{OFF_MTU, VIRTIO_NET_F_MTU},
	};
	uint64_t never = 0;

	for (size_t i = 0; i < ARRAY_SIZE(feature); i++)
		if (off & feature[i].off)
			never |= FEATURE(feature[i].bit);
	return never;
}

uint32_t offloads_unused(uint32_t off)
{
	const uint32_t both_tso = OFFLOAD_TSO4 | OFFLOAD_TSO6;

	if (off & OFFLOAD_CSUM)
		return OFFLOAD_ALL;
	return (off & OFFLOAD_ALL) | ((off & both_tso) == both_tso ? OFFLOAD_ECN : 0u);
}
