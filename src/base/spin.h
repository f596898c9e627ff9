/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>

#include "base/base.h"

/* A lock for a few hundred cycles between workers, taken once for a batch, never for a frame. Zero-initialised. */
struct spin {
	atomic_flag held;
};

static inline bool spin_try(struct spin *s)
{
	return !atomic_flag_test_and_set_explicit(&s->held, memory_order_acquire);
}

static inline void spin_lock(struct spin *s)
{
	while (!spin_try(s))
		cpu_relax();
}

static inline void spin_unlock(struct spin *s)
{
	atomic_flag_clear_explicit(&s->held, memory_order_release);
}
