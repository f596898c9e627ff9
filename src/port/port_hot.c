/* SPDX-License-Identifier: Apache-2.0 */
#include "port/port.h"

static _Atomic bool attention_pending;

void port_attention(struct port *p)
{
	atomic_store_explicit(&p->attention, true, memory_order_relaxed);
	/* An exchange and not a store: of several marks whoever takes the last one sees what came before all of them. */
	atomic_exchange_explicit(&attention_pending, true, memory_order_release);
}

bool port_attention_pending(void)
{
	return atomic_load_explicit(&attention_pending, memory_order_relaxed) &&
	       atomic_exchange_explicit(&attention_pending, false, memory_order_acquire);
}
