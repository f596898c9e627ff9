/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"usage: load rate|pingpong|eventfd [OPTION]...\n"
	"Drives the ports of a virtual switch over vhost-user, in pairs, and prints JSON.\n"
	"  --socket PATH      a port, two at least, an even number\n"
	"  --listen           wait there for the switch instead of connecting to it\n"
	"  --size N           bytes of a frame without FCS, 60 to 65549, or imix (60)\n"
	"  --gso N            frames are TCP, with segmentation to N bytes of payload and checksums left undone\n"
	"  --flight N         frames on their way in each direction (1024)\n"
	"  --ring N           entries of each ring (1024)\n"
	"  --pairs N          queue pairs (1)\n"
	"  --piece N          bytes of a buffer, for chains and merged buffers (as long as the longest frame)\n"
	"  --require LIST     virtio features that must be there: mergeable,indirect,event-idx,packed,in-order\n"
	"  --want LIST        and such that are taken if offered\n"
	"  --check            compare whole frames\n"
	"  --seconds S        (2)\n"
	"  --marks            a line on standard input asks for a report, its end ends the run\n"
	"  --pace N           frames a second, all ports together, and their latency; 0: as many as come round (0)\n"
	"  --gap-us N         pause before each frame of pingpong and eventfd (1000)\n"
	"  --cpu N            run there; --peer-cpu N: where eventfd's other thread runs\n";

static uint64_t feature_bit(const char *name)
{
	static const struct {
		const char *name;
		uint64_t bit;
	} table[] = {
		{"mergeable", FRONT_F_MRG_RXBUF}, {"indirect", FRONT_F_INDIRECT_DESC}, {"event-idx", FRONT_F_EVENT_IDX},
		{"packed", FRONT_F_RING_PACKED},  {"in-order", FRONT_F_IN_ORDER},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strcmp(table[i].name, name) == 0)
			return table[i].bit;
	fprintf(stderr, "load: no feature \"%s\"\n", name);
	exit(2);
}

static uint64_t feature_bits(char *list)
{
	uint64_t bits = 0;
	char *rest = NULL;

	for (char *word = strtok_r(list, ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest))
		bits |= feature_bit(word);
	return bits;
}

static unsigned number(const char *text, unsigned least, unsigned most)
{
	char *end;
	const unsigned long n = strtoul(text, &end, 10);

	if (*text != '\0' && *end == '\0' && n >= least && n <= most)
		return (unsigned)n;
	fprintf(stderr, "load: \"%s\" is not a number from %u to %u\n", text, least, most);
	exit(2);
}

static void add_socket(struct load_conf *c, const char *path)
{
	if (c->ports == LOAD_PORTS_MAX) {
		fprintf(stderr, "load: more than %d ports\n", LOAD_PORTS_MAX);
		exit(2);
	}
	c->path[c->ports++] = path;
}

static const struct option options[] = {
	{"socket", required_argument, NULL, 's'},
	{"listen", no_argument, NULL, 'l'},
	{"size", required_argument, NULL, 'z'},
	{"flight", required_argument, NULL, 'f'},
	{"gso", required_argument, NULL, 'G'},
	{"ring", required_argument, NULL, 'r'},
	{"pairs", required_argument, NULL, 'q'},
	{"piece", required_argument, NULL, 'p'},
	{"require", required_argument, NULL, 'R'},
	{"want", required_argument, NULL, 'W'},
	{"check", no_argument, NULL, 'k'},
	{"seconds", required_argument, NULL, 't'},
	{"marks", no_argument, NULL, 'm'},
	{"pace", required_argument, NULL, 'a'},
	{"gap-us", required_argument, NULL, 'g'},
	{"cpu", required_argument, NULL, 'c'},
	{"peer-cpu", required_argument, NULL, 'C'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static void set_traffic(struct load_conf *c, int option, char *value)
{
	switch (option) {
	case 'z':
		c->size = strcmp(value, "imix") == 0 ? LOAD_SIZE_IMIX : number(value, LOAD_SIZE_MIN, LOAD_SIZE_MAX);
		break;
	case 'G':
		c->gso = number(value, 8, UINT16_MAX);
		c->required |= FRONT_F_CSUM | FRONT_F_GUEST_CSUM | FRONT_F_HOST_TSO4 | FRONT_F_GUEST_TSO4;
		break;
	case 'f':
		c->flight = number(value, 1, 32768);
		break;
	case 'k':
		c->check = true;
		break;
	case 't':
		c->seconds = strtod(value, NULL);
		break;
	case 'm':
		c->marks = true;
		break;
	case 'a':
		c->pace = strtod(value, NULL);
		break;
	case 'g':
		c->gap_us = number(value, 0, 10000000);
		break;
	default:
		fputs(usage, stderr);
		exit(option == 'h' ? 0 : 2);
	}
}

static void set_option(struct load_conf *c, int option, char *value)
{
	switch (option) {
	case 's':
		add_socket(c, value);
		break;
	case 'l':
		c->listen = true;
		break;
	case 'r':
		c->ring = number(value, 8, 32768);
		break;
	case 'q':
		c->pairs = number(value, 1, FRONT_PAIRS_MAX);
		break;
	case 'p':
		c->piece = number(value, 128, LOAD_SIZE_MAX);
		break;
	case 'R':
		c->required |= feature_bits(value);
		break;
	case 'W':
		c->wanted = feature_bits(value);
		break;
	case 'c':
		c->cpu = (int)number(value, 0, 1023);
		break;
	case 'C':
		c->peer_cpu = (int)number(value, 0, 1023);
		break;
	default:
		set_traffic(c, option, value);
	}
}

static void check_conf(const struct load_conf *c)
{
	if (c->ports < 2 || c->ports % 2 != 0) {
		fprintf(stderr, "load: %u sockets: an even number is needed, two at least\n", c->ports);
		exit(2);
	}
	if (c->size == LOAD_SIZE_IMIX && c->piece != 0) {
		fprintf(stderr, "load: imix goes without --piece\n");
		exit(2);
	}
	if (c->gso != 0 && c->size <= LOAD_TCP_AT + c->gso) {
		fprintf(stderr, "load: frames of %u bytes are no longer than one of their segments\n", c->size);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	static struct load l = {.conf = {.size = 60,
					 .flight = 1024,
					 .ring = 1024,
					 .pairs = 1,
					 .seconds = 2,
					 .gap_us = 1000,
					 .cpu = -1,
					 .peer_cpu = -1}};
	const char *mode = argc > 1 ? argv[1] : "";
	int option, status = 1;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		set_option(&l.conf, option, optarg);
	if (!load_pin(l.conf.cpu))
		return 1;
	if (strcmp(mode, "eventfd") == 0)
		return load_eventfd(&l.conf);
	if (strcmp(mode, "rate") != 0 && strcmp(mode, "pingpong") != 0) {
		fputs(usage, stderr);
		return 2;
	}
	check_conf(&l.conf);
	if (load_open(&l) && load_introduce(&l))
		status = strcmp(mode, "rate") == 0 ? load_rate(&l) : load_pingpong(&l);
	load_close(&l);
	return status;
}
