/* SPDX-License-Identifier: Apache-2.0 */
#include "port/port.h"

#include <stdarg.h>
#include <stdio.h>

const char *drop_name(enum drop_reason r)
{
	static const char *const name[DROP_N] = {
#define DROP(symbol, text, meaning) [DROP_##symbol] = text,
#include "port/drop.def"
#undef DROP
	};
	return name[r];
}

const char *drop_meaning(enum drop_reason r)
{
	static const char *const meaning_of[DROP_N] = {
#define DROP(symbol, text, meaning) [DROP_##symbol] = meaning,
#include "port/drop.def"
#undef DROP
	};
	return meaning_of[r];
}

const char *port_state_name(enum port_state s)
{
	static const char *const name[PORT_STATE_N] = {
		[PORT_WAITING] = "waiting", [PORT_STARTING] = "starting", [PORT_UP] = "up",
		[PORT_DOWN] = "down",       [PORT_BROKEN] = "broken",
	};
	return name[s];
}

void port_info_add(struct port_info *info, const char *key, const char *fmt, ...)
{
	va_list ap;

	if (info->n_details == PORT_DETAILS_MAX)
		return;
	snprintf(info->detail[info->n_details].key, sizeof(info->detail[0].key), "%s", key);
	va_start(ap, fmt);
	vsnprintf(info->detail[info->n_details].value, sizeof(info->detail[0].value), fmt, ap);
	va_end(ap);
	info->n_details++;
}

static uint64_t load(const _Atomic uint64_t *c)
{
	return atomic_load_explicit((_Atomic uint64_t *)c, memory_order_relaxed);
}

void port_totals(const struct port *p, struct port_totals *t)
{
	*t = (struct port_totals){0};
	for (unsigned w = 0; w <= WORKERS_MAX; w++) {
		const struct port_counters *c = &p->counters[w];

		t->rx_frames += load(&c->rx_frames);
		t->rx_bytes += load(&c->rx_bytes);
		t->tx_frames += load(&c->tx_frames);
		t->tx_bytes += load(&c->tx_bytes);
		t->rx_broadcast += load(&c->rx_broadcast);
		t->rx_multicast += load(&c->rx_multicast);
		t->tx_flooded += load(&c->tx_flooded);
		for (unsigned r = 0; r < DROP_N; r++)
			t->drop[r] += load(&c->drop[r]);
	}
}
