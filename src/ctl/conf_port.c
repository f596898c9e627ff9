/* SPDX-License-Identifier: Apache-2.0 */
/* The rules for a port's keys, whoever wrote them: each key has one setter, which checks its value and says what is wrong
 * with it; what keys demand of each other is checked after.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl/conf.h"
#include "ctl/conf_offload.h"

#define BIT(n)     (1u << (n))
#define GUEST_ONLY BIT(CONF_GUEST)
#define INTERFACE  (BIT(CONF_TAP) | BIT(CONF_PACKET))
#define ANY_KIND   (GUEST_ONLY | INTERFACE)
#define FIXED      false
#define LIVE       true

const struct port_key_info port_key_info[PORT_KEY_N] = {
#define KEY(key, value, kinds_of, change)                                                                              \
	[PORT_KEY_##key] = {.name = #key, .type = VALUE_##value, .kinds = (kinds_of), .live = (change)},
#include "ctl/port_keys.def"
#undef KEY
};

static const char *const kind_names[CONF_KIND_N] = {
	[CONF_GUEST] = "guest",
	[CONF_TAP] = "tap",
	[CONF_PACKET] = "packet",
};

const char *conf_kind_name(enum conf_kind k)
{
	return kind_names[k];
}

const char *conf_role_name(enum vhost_role r)
{
	return r == VHOST_CONNECT ? "connect" : "listen";
}

/* ---- one key, one setter; *v has the key's type, or is VALUE_NONE where the key allows it ---- */

static int set_name(struct port_conf *c, const struct value *v, struct err *e)
{
	static const char remedy[] =
		"use 1 to 31 letters, digits, dots, dashes and underscores, and begin with a letter or digit";
	size_t n = strlen(v->text);
	bool ok = n > 0 && n < sizeof(c->name) && isalnum((unsigned char)v->text[0]);

	for (size_t i = 0; ok && i < n; i++)
		ok = isalnum((unsigned char)v->text[i]) || strchr("._-", v->text[i]);
	if (!ok)
		return err_set(e, -EINVAL, "name", remedy, "'%.40s' is not a name for a port", v->text);
	memcpy(c->name, v->text, n + 1);
	return 0;
}

static int set_kind(struct port_conf *c, const struct value *v, struct err *e)
{
	for (unsigned k = 0; k < CONF_KIND_N; k++) {
		if (!strcmp(v->text, kind_names[k])) {
			c->kind = (enum conf_kind)k;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "kind", "write guest, tap or packet", "'%.40s' is not a kind of port", v->text);
}

static int set_mac(struct port_conf *c, const struct value *v, struct err *e)
{
	struct mac m;

	if (v->type == VALUE_NONE) {
		c->fwd.has_mac = false;
		c->fwd.mac = (struct mac){0};
		return 0;
	}
	if (mac_parse(v->text, &m) < 0)
		return err_set(e, -EINVAL, "mac", "write six hex pairs, like 52:54:00:12:34:56",
			       "'%.40s' is not a MAC address", v->text);
	if (mac_is_multicast(m) || mac_is_zero(m))
		return err_set(e, -EINVAL, "mac", "use an address whose first byte is even, like 52:54:00:12:34:56",
			       "%s is not the address of one station", v->text);
	c->fwd.has_mac = true;
	c->fwd.mac = m;
	return 0;
}

static int set_vid(uint16_t *vid, const char *field, const struct value *v, struct err *e)
{
	if (v->number < 1 || v->number > VID_MAX)
		return err_set(e, -EINVAL, field, "write a number from 1 to 4094", "%" PRId64 " is not a VLAN",
			       v->number);
	*vid = (uint16_t)v->number;
	return 0;
}

static int set_vlan(struct port_conf *c, const struct value *v, struct err *e)
{
	c->fwd.trunk = false;
	memset(c->fwd.allowed, 0, sizeof(c->fwd.allowed));
	return set_vid(&c->fwd.vid, "vlan", v, e);
}

static int set_trunk(struct port_conf *c, const struct value *v, struct err *e)
{
	if (!c->fwd.trunk)
		c->fwd.vid = 0;
	c->fwd.trunk = true;
	return vlans_parse(v->text, c->fwd.allowed, e);
}

static int set_native(struct port_conf *c, const struct value *v, struct err *e)
{
	if (!c->fwd.trunk)
		return err_set(e, -EINVAL, "native", "give `vlan` for an access port, or `trunk` too",
			       "only a trunk has a native VLAN");
	if (v->type == VALUE_NONE) {
		c->fwd.vid = 0;
		return 0;
	}
	return set_vid(&c->fwd.vid, "native", v, e);
}

static int set_mtu(struct port_conf *c, const struct value *v, struct err *e)
{
	static const char wide[] = "write a number from 68 to 65535",
			  narrow[] = "write a number from 68 to 9216: an interface carries no more";
	unsigned max = c->kind == CONF_GUEST ? FRAME_MTU_MAX : CONF_WIRE_MTU_MAX;

	if (v->number < FRAME_MTU_MIN || v->number > max)
		return err_set(e, -EINVAL, "mtu", c->kind == CONF_GUEST ? wide : narrow,
			       "%" PRId64 " is not an MTU%s%s", v->number,
			       c->kind == CONF_GUEST ? "" : " for a port of kind ",
			       c->kind == CONF_GUEST ? "" : kind_names[c->kind]);
	c->mtu = (unsigned)v->number;
	return 0;
}

static int set_spoof_guard(struct port_conf *c, const struct value *v, struct err *e)
{
	(void)e;
	c->fwd.spoof_guard = v->flag;
	return 0;
}

static int set_too_big_reply(struct port_conf *c, const struct value *v, struct err *e)
{
	(void)e;
	c->too_big_reply = v->flag;
	return 0;
}

static int set_coalesce(struct port_conf *c, const struct value *v, struct err *e)
{
	(void)e;
	c->coalesce = v->flag;
	return 0;
}

static int set_offloads_off(struct port_conf *c, const struct value *v, struct err *e)
{
	return offloads_parse(v->text, c->kind, &c->offloads_off, e);
}

static int set_socket(struct port_conf *c, const struct value *v, struct err *e)
{
	static const char field[] = "socket";

	if (v->text[0] != '/')
		return err_set(e, -EINVAL, field, "write the whole path, beginning with /",
			       "'%.60s' is not an absolute path", v->text);
	if (strlen(v->text) >= sizeof(c->socket))
		return err_set(e, -EINVAL, field, "choose a shorter path",
			       "the path is longer than the %zu bytes that a Unix socket may have",
			       sizeof(c->socket) - 1);
	for (const char *p = v->text; *p; p++)
		if (iscntrl((unsigned char)*p))
			return err_set(e, -EINVAL, field, "choose another path",
				       "the path has a control character in it");
	snprintf(c->socket, sizeof(c->socket), "%s", v->text);
	return 0;
}

static int set_group(struct port_conf *c, const struct value *v, struct err *e)
{
	if (!v->text[0] || strlen(v->text) >= sizeof(c->group))
		return err_set(e, -EINVAL, "group", "write the name of a group, as in /etc/group",
			       "'%.40s' is not the name of a group", v->text);
	snprintf(c->group, sizeof(c->group), "%s", v->text);
	return 0;
}

static int set_role(struct port_conf *c, const struct value *v, struct err *e)
{
	if (strcmp(v->text, "listen") && strcmp(v->text, "connect"))
		return err_set(e, -EINVAL, "role", "write listen (the VM's program connects) or connect (it listens)",
			       "'%.40s' is not a role", v->text);
	c->role = !strcmp(v->text, "connect") ? VHOST_CONNECT : VHOST_LISTEN;
	return 0;
}

static int set_queues(struct port_conf *c, const struct value *v, struct err *e)
{
	if (v->number < 1 || v->number > PORT_QUEUES_MAX)
		return err_set(e, -EINVAL, "queues", "write a number from 1 to 16",
			       "%" PRId64 " is not a number of queue pairs", v->number);
	c->queues = (unsigned)v->number;
	return 0;
}

static int set_front_end(struct port_conf *c, const struct value *v, struct err *e)
{
	for (unsigned f = 0; f < VHOST_FRONT_END_N; f++) {
		if (!strcmp(v->text, vhost_front_end_name((enum vhost_front_end)f))) {
			c->front_end = (enum vhost_front_end)f;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "front_end", "write qemu, cloud-hypervisor or crosvm",
		       "'%.40s' is not a front end that is known here", v->text);
}

static int set_ifname(struct port_conf *c, const struct value *v, struct err *e)
{
	size_t n = strlen(v->text);
	bool ok = n > 0 && n < sizeof(c->ifname) && strcmp(v->text, ".") && strcmp(v->text, "..");

	for (size_t i = 0; ok && i < n; i++)
		ok = isgraph((unsigned char)v->text[i]) && !strchr("/:%", v->text[i]);
	if (!ok)
		return err_set(e, -EINVAL, "ifname", "use 1 to 15 characters without space, slash, colon or percent",
			       "'%.40s' is not a name for an interface", v->text);
	memcpy(c->ifname, v->text, n + 1);
	return 0;
}

static int set_netns(struct port_conf *c, const struct value *v, struct err *e)
{
	size_t n = strlen(v->text);
	bool ok = n > 0 && n < sizeof(c->netns) && v->text[0] != '.';

	for (size_t i = 0; ok && i < n; i++)
		ok = isgraph((unsigned char)v->text[i]) && v->text[i] != '/';
	if (!ok)
		return err_set(e, -EINVAL, "netns", "write a name that `ip netns list` shows, not a path",
			       "'%.40s' is not a name of a network namespace", v->text);
	memcpy(c->netns, v->text, n + 1);
	return 0;
}

static int (*const set_key[PORT_KEY_N])(struct port_conf *, const struct value *, struct err *) = {
#define KEY(key, type, kinds, change) [PORT_KEY_##key] = set_##key,
#include "ctl/port_keys.def"
#undef KEY
};

/* ---- keys together ---- */

static bool is_set(const struct port_keys *keys, enum port_key k)
{
	return keys->v[k].type != VALUE_UNSET;
}

static int check_type(enum port_key k, const struct value *v, struct err *e)
{
	static const char *const wanted[] = {
		[VALUE_TEXT] = "a text",
		[VALUE_NUMBER] = "a whole number",
		[VALUE_FLAG] = "yes or no",
	};
	static const char *const remedy[] = {
		[VALUE_TEXT] = "write it in quotes",
		[VALUE_NUMBER] = "write digits, without quotes",
		[VALUE_FLAG] = "write true or false, without quotes",
	};
	const struct port_key_info *info = &port_key_info[k];

	if (v->type == info->type || (v->type == VALUE_NONE && (k == PORT_KEY_mac || k == PORT_KEY_native)))
		return 0;
	return err_set(e, -EINVAL, info->name, remedy[info->type], "must be %s", wanted[info->type]);
}

static int check_kind(const struct port_conf *c, enum port_key k, struct err *e)
{
	if (port_key_info[k].kinds & BIT(c->kind))
		return 0;
	return err_set(e, -EINVAL, port_key_info[k].name, "leave it out, or choose another kind",
		       "a port of kind %s does not have this", kind_names[c->kind]);
}

static int apply(struct port_conf *c, const struct port_keys *keys, struct err *e)
{
	for (unsigned k = 0; k < PORT_KEY_N; k++) {
		const struct value *v = &keys->v[k];
		int rc;

		if (v->type == VALUE_UNSET)
			continue;
		if ((rc = check_type((enum port_key)k, v, e)) < 0)
			return rc;
		if (k > PORT_KEY_kind && (rc = check_kind(c, (enum port_key)k, e)) < 0)
			return rc;
		if ((rc = set_key[k](c, v, e)) < 0)
			return rc;
	}
	return 0;
}

static int check_vlans(const struct port_conf *c, const struct port_keys *keys, struct err *e)
{
	const struct fwd_port_conf *f = &c->fwd;

	if (is_set(keys, PORT_KEY_vlan) && is_set(keys, PORT_KEY_trunk))
		return err_set(e, -EINVAL, "trunk", "keep one of them: `vlan` for an access port, `trunk` for a trunk",
			       "`vlan` is given too");
	if (f->trunk && f->vid && !(f->allowed[f->vid / 8] & BIT(f->vid & 7)))
		return err_set(e, -EINVAL, is_set(keys, PORT_KEY_native) ? "native" : "trunk",
			       "add it to `trunk`, or choose another `native`",
			       "the native VLAN %u is not one of the trunk's", f->vid);
	return 0;
}

/* The guard is on by default when there is a MAC to guard. @had_mac: before these keys. */
static int check_guard(struct port_conf *c, const struct port_keys *keys, bool had_mac, struct err *e)
{
	struct fwd_port_conf *f = &c->fwd;

	if (!is_set(keys, PORT_KEY_spoof_guard) && f->has_mac != had_mac)
		f->spoof_guard = f->has_mac;
	if (f->spoof_guard && !f->has_mac)
		return err_set(e, -EINVAL, "spoof_guard", "give `mac` too, or leave the guard off",
			       "the spoof guard needs to know the port's MAC");
	return 0;
}

/* A locally administered address made from the name (FNV-1a): the same on every host and after every start. */
static struct mac mac_from_name(const char *name)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (const char *p = name; *p; p++)
		h = (h ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
	return mac_from_u64(UINT64_C(0x02) << 40 | ((h ^ h >> 40) & UINT64_C(0xffffffffff)));
}

static int check(struct port_conf *c, const struct port_keys *keys, bool had_mac, struct err *e)
{
	int rc = check_vlans(c, keys, e);

	if (rc == 0)
		rc = check_guard(c, keys, had_mac, e);
	c->mac = c->fwd.has_mac ? c->fwd.mac : mac_from_name(c->name);
	return rc;
}

/* What a new port has where its keys say nothing, and cannot have before its name and kind are known. */
static int complete(struct port_conf *c, const struct port_keys *keys, const char *run_dir, struct err *e)
{
	int n;

	if (c->kind == CONF_GUEST && !is_set(keys, PORT_KEY_socket)) {
		n = snprintf(c->socket, sizeof(c->socket), "%s/%s.sock", run_dir, c->name);
		if (n < 0 || (size_t)n >= sizeof(c->socket))
			return err_set(e, -EINVAL, "socket", "give a shorter path as `socket`",
				       "%.60s.../%s.sock is too long for a Unix socket", run_dir, c->name);
	}
	c->coalesce = c->coalesce && c->kind != CONF_GUEST;
	if (c->kind != CONF_GUEST && !is_set(keys, PORT_KEY_ifname)) {
		if (strlen(c->name) >= sizeof(c->ifname))
			return err_set(e, -EINVAL, "ifname", "give `ifname`",
				       "%s is too long for the name of an interface", c->name);
		memcpy(c->ifname, c->name, strlen(c->name) + 1);
	}
	return 0;
}

int conf_port_make(struct port_conf *c, const struct port_keys *keys, const char *run_dir, unsigned mtu, struct err *e)
{
	int rc;

	*c = (struct port_conf){
		.mtu = mtu, .queues = 4, .fwd.vid = VID_DEFAULT, .too_big_reply = true, .coalesce = true};
	if (!is_set(keys, PORT_KEY_name))
		return err_set(e, -EINVAL, "name", "give each port a name, like vm1", "is missing");
	rc = apply(c, keys, e);
	if (rc == 0)
		rc = complete(c, keys, run_dir, e);
	if (rc == 0)
		rc = check(c, keys, false, e);
	return rc;
}

int conf_port_change(struct port_conf *c, const struct port_keys *keys, struct err *e)
{
	struct port_conf changed = *c;
	int rc;

	for (unsigned k = 0; k < PORT_KEY_N; k++)
		if (is_set(keys, (enum port_key)k) && !port_key_info[k].live)
			return err_set(e, -EBUSY, port_key_info[k].name, "delete the port and add it again",
				       "cannot change while the port exists");
	rc = apply(&changed, keys, e);
	if (rc == 0)
		rc = check(&changed, keys, c->fwd.has_mac, e);
	if (rc == 0)
		*c = changed;
	return rc;
}

int conf_port_clash(const struct port_conf *c, const struct port_conf *other, struct err *e)
{
	char mac[MAC_TEXT_BYTES];

	if (!strcmp(c->name, other->name))
		return err_set(e, -EEXIST, "name", "give each port a name of its own", "there is a port %s already",
			       c->name);
	if (c->fwd.has_mac && other->fwd.has_mac && mac_equal(c->fwd.mac, other->fwd.mac))
		return err_set(e, -EEXIST, "mac", "give each port a MAC of its own", "%s belongs to port %s",
			       mac_format(c->fwd.mac, mac), other->name);
	if (c->kind == CONF_GUEST && other->kind == CONF_GUEST && !strcmp(c->socket, other->socket))
		return err_set(e, -EEXIST, "socket", "give each port a socket of its own", "%s belongs to port %s",
			       c->socket, other->name);
	if (c->kind != CONF_GUEST && other->kind != CONF_GUEST && !strcmp(c->ifname, other->ifname) &&
	    !strcmp(c->netns, other->netns))
		return err_set(e, -EEXIST, "ifname", "give each port an interface of its own", "%s belongs to port %s",
			       c->ifname, other->name);
	return 0;
}
