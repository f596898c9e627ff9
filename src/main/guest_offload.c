/* SPDX-License-Identifier: Apache-2.0 */
#include "main/guest_offload.h"

#include <stdarg.h>
#include <stdio.h>

/* Why a feature is not agreed on; the first that applies is told. */
enum why {
	AGREED,
	LACKS_NEED,   /* acknowledged, but without another bit it means nothing */
	SWITCHED_OFF, /* by the port's key */
	NEED_IS_OFF,  /* not offered: what it needs was switched off */
	OLD_PROMISE,  /* not offered: an earlier flued had offered less to this guest */
	NOT_ASKED,    /* offered and not taken */
	WHY_N
};

struct feature {
	unsigned bit;
	const char *name;
};

static const struct feature from_guest[] = {
	{VIRTIO_NET_F_CSUM, "csum"},    {VIRTIO_NET_F_HOST_TSO4, "tso4"}, {VIRTIO_NET_F_HOST_TSO6, "tso6"},
	{VIRTIO_NET_F_HOST_ECN, "ecn"}, {VIRTIO_NET_F_HOST_USO, "uso"},
};
static const struct feature to_guest[] = {
	{VIRTIO_NET_F_GUEST_CSUM, "guest_csum"}, {VIRTIO_NET_F_GUEST_TSO4, "guest_tso4"},
	{VIRTIO_NET_F_GUEST_TSO6, "guest_tso6"}, {VIRTIO_NET_F_GUEST_ECN, "guest_ecn"},
	{VIRTIO_NET_F_GUEST_USO4, "guest_uso4"}, {VIRTIO_NET_F_GUEST_USO6, "guest_uso6"},
	{VIRTIO_NET_F_MRG_RXBUF, "mrg_rxbuf"},
};

static enum why why_not(const struct vhost_state *s, unsigned bit)
{
	uint64_t f = FEATURE(bit);

	if (s->features & f)
		return vhost_features_sound(s->features) & f ? AGREED : LACKS_NEED;
	if (s->offered & f)
		return NOT_ASKED;
	if (s->never & f)
		return SWITCHED_OFF;
	return vhost_features_sound(s->known & ~s->never) & f ? OLD_PROMISE : NEED_IS_OFF;
}

/* A text that grows; what does not fit is left out. */
struct text {
	char s[sizeof(((struct port_info *)0)->detail[0].value)];
	size_t n;
};

static void put(struct text *t, const char *fmt, ...) printf_like(2, 3);

static void put(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->s + t->n, sizeof(t->s) - t->n, fmt, ap);
	va_end(ap);
	t->n = n < 0 ? t->n : min_u32((uint32_t)(t->n + (size_t)n), sizeof(t->s) - 1);
}

static void put_names(struct text *t, const struct vhost_state *s, enum why why, const struct feature *f, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (why_not(s, f[i].bit) == why)
			put(t, "%s%s", t->n && t->s[t->n - 1] != ' ' ? " " : "", f[i].name);
}

/* "tso4 tso6: switched off (offloads_off); " */
static void put_reason(struct text *t, const struct vhost_state *s, enum why why)
{
	static const char *const words[WHY_N] = {
		[SWITCHED_OFF] = "switched off (offloads_off)",
		[OLD_PROMISE] = "not promised to this guest before flued was restarted: restart its VM",
		[NOT_ASKED] = "not asked for by the guest's driver or its hypervisor",
	};
	size_t before = t->n;

	put_names(t, s, why, from_guest, ARRAY_SIZE(from_guest));
	put_names(t, s, why, to_guest, ARRAY_SIZE(to_guest));
	if (t->n > before)
		put(t, ": %s; ", words[why]);
}

/* The same for one that lacks what it needs, each with its own reason: "guest_ecn: needs guest_tso4 or guest_tso6; ". */
static void put_needs(struct text *t, const struct vhost_state *s, const struct feature *f, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		enum why why = why_not(s, f[i].bit);

		if (why == LACKS_NEED || why == NEED_IS_OFF)
			put(t, "%s: needs %s; ", f[i].name, vhost_feature_needs(f[i].bit));
	}
}

static void add_agreed(const struct vhost_state *s, const char *key, const struct feature *f, size_t n,
		       struct port_info *info)
{
	struct text t = {0};

	put_names(&t, s, AGREED, f, n);
	port_info_add(info, key, "%s", t.n ? t.s : "none");
}

static void add_missing(const struct vhost_state *s, struct port_info *info)
{
	struct text t = {0};

	put_reason(&t, s, SWITCHED_OFF);
	put_needs(&t, s, from_guest, ARRAY_SIZE(from_guest));
	put_needs(&t, s, to_guest, ARRAY_SIZE(to_guest));
	put_reason(&t, s, OLD_PROMISE);
	put_reason(&t, s, NOT_ASKED);
	if (t.n >= 2)
		port_info_add(info, "offloads_not_agreed", "%.*s", (int)t.n - 2, t.s);
}

static void add_mtu(const struct vhost_state *s, unsigned mtu, struct port_info *info)
{
	static const char set_it[] = "set it in the guest";

	switch (why_not(s, VIRTIO_NET_F_MTU)) {
	case AGREED:
		port_info_add(info, "guest_mtu", "the guest's driver was told %u", mtu);
		break;
	case SWITCHED_OFF:
		port_info_add(info, "guest_mtu", "not told, switched off (offloads_off): %s", set_it);
		break;
	case OLD_PROMISE:
		port_info_add(info, "guest_mtu", "not promised to this guest before flued was restarted: %s", set_it);
		break;
	default:
		port_info_add(info, "guest_mtu", "the guest's driver did not ask for it: %s", set_it);
		break;
	}
}

void guest_offload_info(const struct vhost_state *s, unsigned mtu, struct port_info *info)
{
	if (!s->features_set)
		return;
	add_agreed(s, "offloads_from_guest", from_guest, ARRAY_SIZE(from_guest), info);
	add_agreed(s, "offloads_to_guest", to_guest, ARRAY_SIZE(to_guest), info);
	add_missing(s, info);
	add_mtu(s, mtu, info);
}
