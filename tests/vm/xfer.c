/* SPDX-License-Identifier: Apache-2.0 */
/* Does a network deliver what was sent? A server that returns everything, and a client that compares.
 *
 *     xfer serve PORT
 *     xfer ADDRESS PORT BYTES [DATAGRAM_BYTES...]
 *
 * BYTES go out over TCP and come back, at the same time; then each datagram over UDP. Status 0: every byte came back. Runs
 * in guests, in namespaces and between them, over IPv4 and IPv6. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_BYTES 65536
#define STALL_MS    20000 /* longer without progress: given up */
#define ANSWER_MS   1000  /* a datagram's way there and back */
#define TRIES       5     /* datagrams may be lost, for want of buffers */

static void die(const char *what)
{
	fprintf(stderr, "xfer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void lie(const char *what)
{
	fprintf(stderr, "xfer: %s\n", what);
	exit(1);
}

/* Bytes without a pattern that a wrong offset could survive: the same for who sends and who compares (xorshift64*). */
struct noise {
	uint64_t state;
	uint64_t word;
	unsigned left;
};

static uint8_t noise_next(struct noise *n)
{
	if (!n->left) {
		n->state ^= n->state >> 12;
		n->state ^= n->state << 25;
		n->state ^= n->state >> 27;
		n->word = n->state * UINT64_C(0x2545f4914f6cdd1d);
		n->left = 8;
	}
	return (uint8_t)(n->word >> 8 * --n->left);
}

static void noise_fill(struct noise *n, uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = noise_next(n);
}

static void noise_compare(struct noise *n, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (p[i] != noise_next(n))
			lie("other bytes came than were sent");
	}
}

static struct noise noise_new(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (struct noise){.state = (uint64_t)now.tv_nsec << 32 | (uint64_t)now.tv_sec};
}

/* -- the server -- */

static void echo_stream(int fd)
{
	static uint8_t chunk[CHUNK_BYTES];
	ssize_t got;

	while ((got = read(fd, chunk, sizeof(chunk))) > 0) {
		for (ssize_t done = 0, n; done < got; done += n) {
			n = write(fd, chunk + done, (size_t)(got - done));
			if (n < 0)
				_exit(1);
		}
	}
	_exit(0);
}

static void serve_stream(int listener)
{
	int fd = accept(listener, NULL, NULL);

	if (fd >= 0 && fork() == 0)
		echo_stream(fd);
	close(fd);
}

/* The answer goes out from the address that was asked (the control message: RFC 3542 6), of which a host may have many. */
static void serve_datagram(int fd)
{
	static uint8_t chunk[CHUNK_BYTES];
	struct sockaddr_storage from;
	uint8_t control[256];
	struct iovec iov = {.iov_base = chunk, .iov_len = sizeof(chunk)};
	struct msghdr m = {.msg_name = &from,
			   .msg_namelen = sizeof(from),
			   .msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	ssize_t got = recvmsg(fd, &m, 0);

	iov.iov_len = got < 0 ? 0 : (size_t)got;
	if (got >= 0 && sendmsg(fd, &m, 0) < 0)
		perror("xfer: sendmsg"); /* the client asks again */
}

static int bound(const char *port, int type)
{
	struct addrinfo hints = {.ai_family = AF_INET6, .ai_socktype = type, .ai_flags = AI_PASSIVE}, *a;
	int one = 1, fd;

	if (getaddrinfo(NULL, port, &hints, &a))
		lie("no such port");
	fd = socket(a->ai_family, type, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof(one)) || bind(fd, a->ai_addr, a->ai_addrlen))
		die(port);
	freeaddrinfo(a);
	return fd;
}

static void serve(const char *port)
{
	struct pollfd p[2] = {{.fd = bound(port, SOCK_STREAM), .events = POLLIN},
			      {.fd = bound(port, SOCK_DGRAM), .events = POLLIN}};

	signal(SIGCHLD, SIG_IGN);
	if (listen(p[0].fd, 16))
		die("listen");
	for (;;) {
		if (poll(p, 2, -1) < 0)
			die("poll");
		if (p[0].revents)
			serve_stream(p[0].fd);
		if (p[1].revents)
			serve_datagram(p[1].fd);
	}
}

/* -- the client -- */

static int connected(const char *address, const char *port, int type)
{
	struct addrinfo hints = {.ai_socktype = type, .ai_flags = AI_NUMERICHOST}, *a;
	int fd;

	if (getaddrinfo(address, port, &hints, &a))
		lie("no such address");
	fd = socket(a->ai_family, type, 0);
	if (fd < 0 || connect(fd, a->ai_addr, a->ai_addrlen))
		die(address);
	freeaddrinfo(a);
	return fd;
}

/* What goes out, and what is due to come back. */
struct stream {
	int fd;
	size_t to_send, to_come;
	struct noise out, due;
	uint8_t chunk[CHUNK_BYTES];
	size_t chunk_at, chunk_len;
};

static void stream_send(struct stream *s)
{
	ssize_t n;

	if (s->chunk_at == s->chunk_len) {
		s->chunk_at = 0;
		s->chunk_len = s->to_send < CHUNK_BYTES ? s->to_send : CHUNK_BYTES;
		noise_fill(&s->out, s->chunk, s->chunk_len);
	}
	n = send(s->fd, s->chunk + s->chunk_at, s->chunk_len - s->chunk_at, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN)
		die("send");
	s->chunk_at += n < 0 ? 0 : (size_t)n;
	s->to_send -= n < 0 ? 0 : (size_t)n;
	if (!s->to_send)
		shutdown(s->fd, SHUT_WR);
}

static void stream_receive(struct stream *s)
{
	static uint8_t chunk[CHUNK_BYTES];
	ssize_t n = recv(s->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0)
		die("recv");
	if (n == 0 || (size_t)n > s->to_come)
		lie(n ? "more came back than was sent" : "the connection ended early");
	noise_compare(&s->due, chunk, (size_t)n);
	s->to_come -= (size_t)n;
}

static void check_stream(const char *address, const char *port, size_t bytes)
{
	struct noise noise = noise_new();
	static struct stream s;

	s = (struct stream){.to_send = bytes, .to_come = bytes, .out = noise, .due = noise};
	s.fd = connected(address, port, SOCK_STREAM);
	while (s.to_come) {
		struct pollfd p = {.fd = s.fd, .events = POLLIN};

		p.events |= s.to_send ? POLLOUT : 0;
		if (poll(&p, 1, STALL_MS) <= 0)
			lie("the connection hangs");
		if (p.revents & POLLOUT)
			stream_send(&s);
		if (p.revents & (POLLIN | POLLHUP | POLLERR))
			stream_receive(&s);
	}
	close(s.fd);
}

/* Only what is due is an answer: the answer to an earlier try may come late. */
static int answered(int fd, const uint8_t *data, size_t len)
{
	static uint8_t answer[CHUNK_BYTES];
	struct pollfd p = {.fd = fd, .events = POLLIN};

	while (poll(&p, 1, ANSWER_MS) > 0) {
		ssize_t n = recv(fd, answer, sizeof(answer), 0);

		if (n >= 0 && (size_t)n == len && !memcmp(answer, data, len))
			return 1;
	}
	return 0;
}

static void check_datagram(const char *address, const char *port, size_t len)
{
	struct noise noise = noise_new();
	static uint8_t data[CHUNK_BYTES];
	int fd = connected(address, port, SOCK_DGRAM);
	int ok = 0;

	noise_fill(&noise, data, len);
	for (int i = 0; i < TRIES && !ok; i++) {
		if (send(fd, data, len, 0) < 0 && errno != EMSGSIZE)
			die("datagram");
		ok = answered(fd, data, len);
	}
	close(fd);
	if (!ok)
		lie("a datagram was not returned, or changed");
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve(argv[2]);
	if (argc < 4)
		lie("usage: xfer serve PORT | xfer ADDRESS PORT BYTES [DATAGRAM_BYTES...]");
	check_stream(argv[1], argv[2], strtoul(argv[3], NULL, 10));
	for (int i = 4; i < argc; i++)
		check_datagram(argv[1], argv[2], strtoul(argv[i], NULL, 10) % CHUNK_BYTES);
	return 0;
}
