/* SPDX-License-Identifier: Apache-2.0 */
/* qemu PORT: what to give a hypervisor so that its guest is on this port. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flue.h"

#define MEMORY    "4G" /* an example: the user's to change */
#define MTU_USUAL 1500 /* what a driver takes by itself */

struct port {
	const char *name, *path, *front_end;
	bool connects; /* flued connects: the hypervisor listens */
	int pairs, mtu;
	const char *mac;
};

/* @text with each character of @special replaced by the string at the same place in @by. It lives until the fourth call
 * after; socket paths, which is all it is for, are at most 107 bytes long. */
static const char *escaped(const char *text, const char *special, const char *const *by)
{
	static char ring[4][1024];
	static unsigned next;
	char *out = ring[next++ % 4];
	size_t at = 0;

	for (; *text && at < sizeof(ring[0]) - 8; text++) {
		const char *found = strchr(special, *text);

		if (found)
			at += (size_t)snprintf(out + at, sizeof(ring[0]) - at, "%s", by[found - special]);
		else
			out[at++] = *text;
	}
	out[at] = '\0';
	return out;
}

static const char *for_qemu(const char *path)
{
	return escaped(path, ",", (const char *const[]){",,"});
}

static const char *for_xml(const char *path)
{
	return escaped(path, "&<'", (const char *const[]){"&amp;", "&lt;", "&apos;"});
}

static const char *for_shell(const char *word)
{
	return escaped(word, "'", (const char *const[]){"'\\''"});
}

static void add(json_t *args, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(json_t *args, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	json_array_append_new(args, json_vsprintf(fmt, ap));
	va_end(ap);
}

/* The guest's memory must be a file that flued can map, hence memfd and share=on. QEMU's `reconnect` counts whole
 * seconds; from 9.2 on there is reconnect-ms. Vectors: one for each ring, one for the control queue, one for changes. The
 * command that turns offloads off in a running guest QEMU would answer itself, without a word to flued. */
static json_t *qemu_args(const struct port *p)
{
	json_t *a = json_array();

	add(a, "-m");
	add(a, MEMORY);
	add(a, "-object");
	add(a, "memory-backend-memfd,id=flue-mem,size=" MEMORY ",share=on");
	add(a, "-machine");
	add(a, "q35,accel=kvm,memory-backend=flue-mem");
	add(a, "-chardev");
	add(a, "socket,id=flue-%s,path=%s,%s", p->name, for_qemu(p->path), p->connects ? "server=on" : "reconnect=1");
	add(a, "-netdev");
	add(a, "vhost-user,id=net-%s,chardev=flue-%s,queues=%d", p->name, p->name, p->pairs);
	add(a, "-device");
	add(a,
	    "virtio-net-pci,netdev=net-%s,mac=%s,mq=%s,vectors=%d,host_mtu=%d,rx_queue_size=1024,tx_queue_size=1024,"
	    "ctrl_guest_offloads=off",
	    p->name, p->mac, p->pairs > 1 ? "on" : "off", 2 * p->pairs + 2, p->mtu);
	return a;
}

static json_t *libvirt_xml(const struct port *p)
{
	return json_sprintf("<memoryBacking>\n"
			    "  <source type='memfd'/>\n"
			    "  <access mode='shared'/>\n"
			    "</memoryBacking>\n"
			    "<interface type='vhostuser'>\n"
			    "  <mac address='%s'/>\n"
			    "  <source type='unix' path='%s' mode='%s'%s\n"
			    "  <model type='virtio'/>\n"
			    "  <driver queues='%d' rx_queue_size='1024' tx_queue_size='1024'/>\n"
			    "  <mtu size='%d'/>\n"
			    "</interface>\n",
			    p->mac, for_xml(p->path), p->connects ? "server" : "client",
			    p->connects ? "/>" : ">\n    <reconnect enabled='yes' timeout='1'/>\n  </source>", p->pairs,
			    p->mtu);
}

static json_t *cloud_hypervisor_args(const struct port *p)
{
	json_t *a = json_array();

	add(a, "--memory");
	add(a, "size=" MEMORY ",shared=on");
	add(a, "--net");
	add(a, "vhost_user=true,socket=%s,vhost_mode=%s,num_queues=%d,queue_size=1024,mac=%s,mtu=%d", p->path,
	    p->connects ? "server" : "client", 2 * p->pairs, p->mac, p->mtu);
	return a;
}

static json_t *crosvm_args(const struct port *p)
{
	json_t *a = json_array();

	add(a, "--vhost-user");
	add(a, "type=net,socket=%s", p->path);
	return a;
}

/* Options with their values, one pair a line, ready for a shell. */
static void print_args(const char *program, const json_t *args)
{
	json_t *word;
	size_t i;

	printf("%s", program);
	json_array_foreach (args, i, word) {
		const char *text = json_string_value(word);

		if (*text == '-')
			printf(" \\\n  %s", text);
		else
			printf(" '%s'", for_shell(text));
	}
	printf("\n\n");
}

static int print_all(const struct port *p, json_t *all)
{
	printf("# QEMU 7.2 and later (from 9.2 on, write reconnect-ms=200 instead of reconnect=1)\n");
	if (p->mtu != MTU_USUAL)
		printf("# host_mtu tells the guest's driver the port's MTU of %d; a driver that does not ask for it "
		       "needs it set\n"
		       "# in the guest (flue port show %s says whether it asked)\n",
		       p->mtu, p->name);
	print_args("qemu-system-x86_64", json_object_get(all, "qemu"));
	printf("# libvirt: the first element belongs into <domain>, the second into <devices>\n%s\n",
	       json_string_value(json_object_get(all, "libvirt")));
	if (strcmp(p->front_end, "cloud-hypervisor") != 0)
		printf("# cloud-hypervisor (make the port with front_end=cloud-hypervisor)\n");
	else
		printf("# cloud-hypervisor\n");
	print_args("cloud-hypervisor", json_object_get(all, "cloud_hypervisor"));
	if (strcmp(p->front_end, "crosvm") == 0) {
		printf("# crosvm\n");
		print_args("crosvm run", json_object_get(all, "crosvm"));
	}
	return EXIT_OK;
}

static int show(const struct cli *cli, const json_t *answer)
{
	struct port p = {
		.name = text_of(answer, "name"),
		.path = text_of(answer, "socket"),
		.front_end = text_of(answer, "front_end"),
		/* configured, or made from the port's name: a guest must have an address of its own */
		.mac = text_of(json_object_get(answer, "detail"), "guest_mac"),
		.connects = strcmp(text_of(answer, "role"), "connect") == 0,
		.pairs = (int)number_of(answer, "queues"),
		.mtu = (int)number_of(answer, "mtu"),
	};
	json_t *all;
	int rc;

	if (strcmp(text_of(answer, "kind"), "guest") != 0) {
		complain(p.name, "this is a %s port, no VM attaches to it: use one of kind guest",
			 text_of(answer, "kind"));
		return EXIT_FAILED;
	}
	all = json_pack("{s:o, s:o, s:o, s:o}", "qemu", qemu_args(&p), "libvirt", libvirt_xml(&p), "cloud_hypervisor",
			cloud_hypervisor_args(&p), "crosvm", crosvm_args(&p));
	rc = cli->json ? print_json(all) : print_all(&p, all);
	json_decref(all);
	return rc;
}

int cmd_qemu(const struct cli *cli, int argc, char **argv)
{
	char path[256];
	json_t *answer;
	int rc;

	if (argc != 2) {
		complain(NULL, "usage: flue qemu PORT");
		return EXIT_USAGE;
	}
	answer = api_call(cli, "GET", port_path(argv[1], path, sizeof(path)), NULL, argv[1]);
	if (!answer)
		return EXIT_FAILED;
	rc = show(cli, answer);
	json_decref(answer);
	return rc;
}
