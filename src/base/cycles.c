/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cycles.h"

#define CALIBRATE_NS (2000 * NS_PER_US) /* one part in 10^4 is enough for what people read */
#define TRIES        8                  /* readings of both clocks, of which the closest pair counts */

static uint64_t hz;

#if defined(__x86_64__)
struct instant {
	uint64_t ns, cycles;
};

/* Both clocks at one moment: whoever is interrupted between them tries again. */
static struct instant instant_now(void)
{
	uint64_t closest = UINT64_MAX;
	struct instant best = {0, 0};

	for (int i = 0; i < TRIES; i++) {
		uint64_t before = cycles_now(), ns = time_now_ns(), apart = cycles_now() - before;

		if (apart < closest) {
			closest = apart;
			best = (struct instant){ns, before + apart / 2};
		}
	}
	return best;
}

static uint64_t measure(void)
{
	struct instant began = instant_now(), now = began;

	while (now.ns - began.ns < CALIBRATE_NS)
		now = instant_now();
	return (now.cycles - began.cycles) * NS_PER_S / (now.ns - began.ns);
}
#elif defined(__aarch64__)
static uint64_t measure(void)
{
	uint64_t v;

	__asm__ volatile("mrs %0, cntfrq_el0" : "=r"(v));
	return v;
}
#else
static uint64_t measure(void)
{
	return NS_PER_S;
}
#endif

void cycles_init(void)
{
	if (!hz)
		hz = measure();
}

uint64_t cycles_hz(void)
{
	return hz;
}

uint64_t cycles_of_ns(uint64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * hz / NS_PER_S);
}

uint64_t cycles_to_ns(uint64_t cycles)
{
	return (uint64_t)((unsigned __int128)cycles * NS_PER_S / hz);
}
