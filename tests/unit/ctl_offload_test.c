/* SPDX-License-Identifier: Apache-2.0 */
/* The words of offloads_off: read, shown, and what they mean to a guest's device and to an interface. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/conf_offload.h"

#define USO    (OFFLOAD_USO4 | OFFLOAD_USO6)
#define TO(x)  OFF_TO_GUEST(OFFLOAD_##x)
#define F(bit) FEATURE(VIRTIO_NET_F_##bit)

static void words_are_read_and_shown(void **state)
{
	static const struct {
		enum conf_kind kind;
		const char *text;
		uint32_t off;
		const char *shown;
	} row[] = {
		{CONF_GUEST, "", 0, ""},
		{CONF_GUEST, " , ", 0, ""},
		{CONF_GUEST, "csum", OFFLOAD_CSUM, "csum"},
		{CONF_GUEST, "ecn,tso6 , tso4", OFFLOAD_ECN | OFFLOAD_TSO4 | OFFLOAD_TSO6, "tso4 tso6 ecn"},
		{CONF_GUEST, "uso6", USO, "uso"}, /* one bit of virtio */
		{CONF_GUEST, "uso4", USO, "uso"},
		{CONF_TAP, "uso4", OFFLOAD_USO4, "uso4"},
		{CONF_PACKET, "uso6 uso4", USO, "uso"},
		{CONF_GUEST, "guest_uso6", TO(USO6), "guest_uso6"},
		{CONF_GUEST, "guest_uso mtu guest_csum", TO(USO4) | TO(USO6) | TO(CSUM) | OFF_MTU,
		 "guest_csum guest_uso mtu"},
		{CONF_GUEST, "guest_tso4 guest_tso6 guest_ecn mrg_rxbuf", TO(TSO4) | TO(TSO6) | TO(ECN) | OFF_MRG_RXBUF,
		 "guest_tso4 guest_tso6 guest_ecn mrg_rxbuf"},
		{CONF_GUEST, "all", OFFLOAD_ALL | OFF_TO_GUEST(OFFLOAD_ALL), "all"},
		{CONF_GUEST, "mtu all", OFFLOAD_ALL | OFF_TO_GUEST(OFFLOAD_ALL) | OFF_MTU, "all mtu"},
		{CONF_TAP, "all", OFFLOAD_ALL, "all"},
		{CONF_TAP, "csum tso4 tso6 ecn uso", OFFLOAD_ALL, "all"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		char shown[OFFLOADS_TEXT_BYTES];
		uint32_t off = ~0u;
		struct err e;

		assert_int_equal(offloads_parse(row[i].text, row[i].kind, &off, &e), 0);
		assert_string_equal(offloads_format(off, row[i].kind, shown), row[i].shown);
		assert_int_equal(off, row[i].off);
	}
}

static void other_words_are_refused_with_those_there_are(void **state)
{
	static const struct {
		enum conf_kind kind;
		const char *text, *word;
	} row[] = {
		{CONF_GUEST, "csum;tso4", "'csum;tso4' "},
		{CONF_GUEST, "tso", "'tso' "},
		{CONF_GUEST, "csum CSUM", "'CSUM' "},
		{CONF_TAP, "csum,guest_csum", "'guest_csum' "},
		{CONF_PACKET, "mtu", "'mtu' "},
		{CONF_TAP, "mrg_rxbuf", "'mrg_rxbuf' "},
		{CONF_GUEST, "al", "'al' "},
		{CONF_GUEST, "allcsum", "'allcsum' "},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		uint32_t off = 77;
		struct err e = {0};

		assert_int_equal(offloads_parse(row[i].text, row[i].kind, &off, &e), -EINVAL);
		assert_int_equal(off, 77);
		assert_non_null(strstr(e.text, row[i].word));
		assert_string_equal(e.field, "offloads_off");
		assert_non_null(strstr(e.remedy, " uso6"));
		assert_int_equal(strstr(e.remedy, "guest_uso6 mrg_rxbuf mtu") != NULL, row[i].kind == CONF_GUEST);
	}
}

/* The text of every set that can be is as long as the longest, or shorter, and means the same set. */
static void what_is_shown_can_be_read(void **state)
{
	(void)state;
	for (uint32_t set = 0; set < 1u << 14; set++) {
		uint32_t off = (set & OFFLOAD_ALL) | OFF_TO_GUEST(set >> 6 & OFFLOAD_ALL), again;
		char shown[OFFLOADS_TEXT_BYTES];
		struct err e;

		off |= (set >> 12 & 1) * OFF_MRG_RXBUF | (set >> 13 & 1) * OFF_MTU;
		if (off & USO)
			off |= USO;
		assert_int_equal(offloads_parse(offloads_format(off, CONF_GUEST, shown), CONF_GUEST, &again, &e), 0);
		assert_int_equal(again, off);
	}
}

static void a_device_never_offers_them(void **state)
{
	static const struct {
		uint32_t off;
		uint64_t never;
	} row[] = {
		{0, 0},
		{OFFLOAD_CSUM, F(CSUM)},
		{OFFLOAD_TSO4 | OFFLOAD_TSO6, F(HOST_TSO4) | F(HOST_TSO6)},
		{OFFLOAD_ECN | USO, F(HOST_ECN) | F(HOST_USO)},
		{TO(CSUM) | TO(TSO4) | TO(TSO6), F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6)},
		{TO(ECN) | TO(USO4), F(GUEST_ECN) | F(GUEST_USO4)},
		{TO(USO6) | OFF_MRG_RXBUF | OFF_MTU, F(GUEST_USO6) | F(MRG_RXBUF) | F(MTU)},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++)
		assert_int_equal(offloads_never(row[i].off), row[i].never);
}

static void an_interface_loses_what_needs_them_too(void **state)
{
	(void)state;
	assert_int_equal(offloads_unused(0), 0);
	assert_int_equal(offloads_unused(OFFLOAD_CSUM), OFFLOAD_ALL);
	assert_int_equal(offloads_unused(OFFLOAD_TSO4), OFFLOAD_TSO4);
	assert_int_equal(offloads_unused(OFFLOAD_TSO4 | OFFLOAD_TSO6), OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_ECN);
	assert_int_equal(offloads_unused(OFFLOAD_USO6), OFFLOAD_USO6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_are_read_and_shown),
		cmocka_unit_test(other_words_are_refused_with_those_there_are),
		cmocka_unit_test(what_is_shown_can_be_read),
		cmocka_unit_test(a_device_never_offers_them),
		cmocka_unit_test(an_interface_loses_what_needs_them_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
