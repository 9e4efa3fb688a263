/*
 * The only program inside a test guest: it is process 1, and it is every application that the VM tests run there.
 *
 * It is driven line by line over the second serial port (the first one is the kernel's console):
 *   in    <id> <command> <arguments ...>
 *   out   READY <kernel release>           once, after every boot
 *         NOTE <id> listening              a server accepts connections from here on
 *         LOG <id> <text>                  one line of a longer answer
 *         RESULT <id> ok|fail <detail>     exactly one for each command, and its last line
 *
 * Each command runs in a process of its own, so that any number of them can run at once and any of them can be
 * killed. What a test means by its commands is not known here: see ../checks.ts.
 */
#define _GNU_SOURCE
#include "boot.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

enum { CHUNK_BYTES = 65536, MESSAGE_BYTES = 1 << 20, MAX_JOBS = 64, MAX_WORDS = 8, MAX_CONNECTIONS = 1024, BACKLOG = 1024 };

static int control_fd = 1;
static const char *job_id = "-";

/* ---- answers ---- */

/* One write call a line: the terminal driver keeps the lines of several processes apart. */
static void say(const char *kind, const char *id, const char *format, ...)
{
	char line[1024];
	int used = snprintf(line, sizeof line, "%s %s ", kind, id);
	va_list arguments;

	va_start(arguments, format);
	used += vsnprintf(line + used, sizeof line - used - 1, format, arguments);
	va_end(arguments);
	if (used > (int)sizeof line - 2)
		used = sizeof line - 2;
	line[used++] = '\n';
	for (int at = 0; at < used;) {
		ssize_t n = write(control_fd, line + at, used - at);
		if (n < 0 && errno != EINTR)
			_exit(2);
		if (n > 0)
			at += n;
	}
}

#define FINISH_OK(...) (say_result("ok", __VA_ARGS__))
#define FINISH_FAIL(...) (say_result("fail", __VA_ARGS__))

static void __attribute__((noreturn)) say_result(const char *verdict, const char *format, ...)
{
	char detail[900], id[64];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(detail, sizeof detail, format, arguments);
	va_end(arguments);
	snprintf(id, sizeof id, "%s %s", job_id, verdict);
	say("RESULT", id, "%s", detail);
	_exit(0);
}

/* ---- SHA-256 (FIPS 180-4) ---- */

struct sha256 {
	uint32_t state[8];
	uint64_t bytes;
	uint8_t block[64];
};

static const uint32_t sha256_constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate_right(uint32_t value, int bits)
{
	return value >> bits | value << (32 - bits);
}

static void sha256_block(struct sha256 *sha, const uint8_t *block)
{
	uint32_t w[64], s[8];

	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
	for (int i = 16; i < 64; i++) {
		uint32_t low = rotate_right(w[i - 15], 7) ^ rotate_right(w[i - 15], 18) ^ w[i - 15] >> 3;
		uint32_t high = rotate_right(w[i - 2], 17) ^ rotate_right(w[i - 2], 19) ^ w[i - 2] >> 10;
		w[i] = w[i - 16] + low + w[i - 7] + high;
	}
	memcpy(s, sha->state, sizeof s);
	for (int i = 0; i < 64; i++) {
		uint32_t high = rotate_right(s[4], 6) ^ rotate_right(s[4], 11) ^ rotate_right(s[4], 25);
		uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]);
		uint32_t first = s[7] + high + choice + sha256_constants[i] + w[i];
		uint32_t low = rotate_right(s[0], 2) ^ rotate_right(s[0], 13) ^ rotate_right(s[0], 22);
		uint32_t majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);

		memmove(s + 1, s, 7 * sizeof *s);
		s[4] += first;
		s[0] = first + low + majority;
	}
	for (int i = 0; i < 8; i++)
		sha->state[i] += s[i];
}

static void sha256_begin(struct sha256 *sha)
{
	static const uint32_t initial[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
					     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

	memcpy(sha->state, initial, sizeof initial);
	sha->bytes = 0;
}

static void sha256_add(struct sha256 *sha, const uint8_t *data, size_t length)
{
	while (length > 0) {
		size_t used = sha->bytes % 64;
		size_t take = 64 - used < length ? 64 - used : length;

		if (take == 64) {
			sha256_block(sha, data);
		} else {
			memcpy(sha->block + used, data, take);
			if (used + take == 64)
				sha256_block(sha, sha->block);
		}
		sha->bytes += take;
		data += take;
		length -= take;
	}
}

static void sha256_end(struct sha256 *sha, char hex[65])
{
	static const uint8_t padding[64] = { 0x80 };
	uint64_t bits = sha->bytes * 8;
	uint8_t length[8];

	for (int i = 0; i < 8; i++)
		length[i] = bits >> (56 - 8 * i);
	sha256_add(sha, padding, 1 + (119 - sha->bytes % 64) % 64);
	sha256_add(sha, length, 8);
	for (int i = 0; i < 8; i++)
		snprintf(hex + 8 * i, 9, "%08x", sha->state[i]);
}

/* ---- the test stream: xorshift32 as little-endian words; ../stream.ts is its twin ---- */

struct stream {
	uint32_t word;
	unsigned used; /* bytes of the current word already given out */
};

static void stream_begin(struct stream *stream, uint32_t seed)
{
	stream->word = seed ? seed : 1;
	stream->used = 4;
}

static void stream_fill(struct stream *stream, uint8_t *data, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (stream->used == 4) {
			stream->word ^= stream->word << 13;
			stream->word ^= stream->word >> 17;
			stream->word ^= stream->word << 5;
			stream->used = 0;
		}
		data[i] = stream->word >> (8 * stream->used++);
	}
}

/* ---- sockets ---- */

static int vsock_socket(int type)
{
	int fd = socket(AF_VSOCK, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		FINISH_FAIL("socket: %s", strerrorname_np(errno));
	return fd;
}

/* [<cid>:]<port>; without a context id it is the host's */
static int connect_to(int fd, const char *target)
{
	const char *colon = strchr(target, ':');
	struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST };

	if (colon)
		address.svm_cid = strtoul(target, NULL, 0);
	address.svm_port = strtoul(colon ? colon + 1 : target, NULL, 0);
	return connect(fd, (struct sockaddr *)&address, sizeof address);
}

static int listen_on(const char *port, int type)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY };
	int fd = vsock_socket(type);

	address.svm_port = strtoul(port, NULL, 0);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
		FINISH_FAIL("bind: %s", strerrorname_np(errno));
	if (listen(fd, BACKLOG) < 0)
		FINISH_FAIL("listen: %s", strerrorname_np(errno));
	say("NOTE", job_id, "listening");
	return fd;
}

static void set_nonblocking(int fd)
{
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		FINISH_FAIL("fcntl: %s", strerrorname_np(errno));
}

/* connect [<cid>:]<port> or accept <port>: one connection, from either side */
static int open_connection(const char *how, const char *target, int type)
{
	if (!strcmp(how, "accept")) {
		int listener = listen_on(target, type);
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			FINISH_FAIL("accept: %s", strerrorname_np(errno));
		close(listener);
		return fd;
	}
	int fd = vsock_socket(type);

	if (connect_to(fd, target) < 0)
		FINISH_FAIL("connect: %s", strerrorname_np(errno));
	return fd;
}

/* ---- talk: one direction after the other, so that each half is closed on its own ---- */

static void send_stream(int fd, uint64_t total, uint32_t seed, char hex[65])
{
	static uint8_t data[CHUNK_BYTES];
	struct stream stream;
	struct sha256 sha;

	stream_begin(&stream, seed);
	sha256_begin(&sha);
	for (uint64_t sent = 0; sent < total;) {
		size_t length = total - sent < sizeof data ? total - sent : sizeof data;

		stream_fill(&stream, data, length);
		sha256_add(&sha, data, length);
		for (size_t at = 0; at < length;) {
			ssize_t n = send(fd, data + at, length - at, MSG_NOSIGNAL);
			if (n < 0)
				FINISH_FAIL("send after %llu bytes: %s", (unsigned long long)(sent + at),
					    strerrorname_np(errno));
			at += n;
		}
		sent += length;
	}
	sha256_end(&sha, hex);
}

static uint64_t receive_stream(int fd, char hex[65])
{
	static uint8_t data[CHUNK_BYTES];
	struct sha256 sha;

	sha256_begin(&sha);
	for (;;) {
		ssize_t n = recv(fd, data, sizeof data, 0);
		if (n < 0)
			FINISH_FAIL("receive after %llu bytes: %s", (unsigned long long)sha.bytes,
				    strerrorname_np(errno));
		if (n == 0)
			break;
		sha256_add(&sha, data, n);
	}
	uint64_t bytes = sha.bytes;

	sha256_end(&sha, hex);
	return bytes;
}

/* talk connect|accept <target> first|last <bytes> <seed>: who speaks first ends its direction first */
static void command_talk(char **word)
{
	int fd = open_connection(word[0], word[1], SOCK_STREAM);
	int first = !strcmp(word[2], "first");
	uint64_t bytes = strtoull(word[3], NULL, 0), received = 0;
	uint32_t seed = strtoul(word[4], NULL, 0);
	char sent_hex[65], received_hex[65];

	if (!first)
		received = receive_stream(fd, received_hex);
	send_stream(fd, bytes, seed, sent_hex);
	if (shutdown(fd, SHUT_WR) < 0)
		FINISH_FAIL("shutdown: %s", strerrorname_np(errno));
	if (first)
		received = receive_stream(fd, received_hex);
	close(fd);
	FINISH_OK("sent %llu %s received %llu %s", (unsigned long long)bytes, sent_hex, (unsigned long long)received,
		  received_hex);
}

/* ---- messages: talk over SOCK_SEQPACKET, where what one send takes is what one receive gives ---- */

/* `lengths` is a list such as 1,70000,5e; an e marks the end of a record (MSG_EOR). The data is one test stream. */
static void send_messages(int fd, const char *lengths, uint32_t seed, char hex[65])
{
	static uint8_t data[MESSAGE_BYTES];
	struct stream stream;
	struct sha256 sha;

	stream_begin(&stream, seed);
	sha256_begin(&sha);
	for (const char *at = lengths; *at;) {
		char *end;
		size_t length = strtoul(at, &end, 10);
		int flags = *end == 'e' ? MSG_EOR : 0;

		if (length > sizeof data)
			FINISH_FAIL("a message of %zu bytes is too long for the test", length);
		stream_fill(&stream, data, length);
		sha256_add(&sha, data, length);
		ssize_t n = send(fd, data, length, MSG_NOSIGNAL | flags);
		if (n < 0)
			FINISH_FAIL("send of %zu bytes: %s", length, strerrorname_np(errno));
		if ((size_t)n != length)
			FINISH_FAIL("send of %zu bytes took %zd", length, n);
		end += *end == 'e';
		at = *end == ',' ? end + 1 : end + strlen(end);
	}
	sha256_end(&sha, hex);
}

static void receive_messages(int fd, char *lengths, size_t size, char hex[65])
{
	static uint8_t data[MESSAGE_BYTES];
	struct sha256 sha;
	size_t used = 0;

	sha256_begin(&sha);
	lengths[0] = 0;
	for (;;) {
		struct iovec vector = { data, sizeof data };
		struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1 };
		ssize_t n = recvmsg(fd, &message, 0);

		if (n < 0)
			FINISH_FAIL("receive after %s: %s", lengths, strerrorname_np(errno));
		if (n == 0)
			break;
		if (message.msg_flags & MSG_TRUNC)
			FINISH_FAIL("a message longer than %zu bytes after %s", sizeof data, lengths);
		sha256_add(&sha, data, n);
		used += snprintf(lengths + used, size - used, "%s%zd%s", used ? "," : "", n,
				 message.msg_flags & MSG_EOR ? "e" : "");
		if (used >= size)
			FINISH_FAIL("too many messages for one answer");
	}
	sha256_end(&sha, hex);
}

/* messages connect|accept <target> first|last <lengths> <seed>: as talk, and reports the length of each message */
static void command_messages(char **word)
{
	int fd = open_connection(word[0], word[1], SOCK_SEQPACKET);
	int first = !strcmp(word[2], "first");
	char sent_hex[65], received_hex[65], received[400];

	if (!first)
		receive_messages(fd, received, sizeof received, received_hex);
	send_messages(fd, word[3], strtoul(word[4], NULL, 0), sent_hex);
	if (shutdown(fd, SHUT_WR) < 0)
		FINISH_FAIL("shutdown: %s", strerrorname_np(errno));
	if (first)
		receive_messages(fd, received, sizeof received, received_hex);
	close(fd);
	FINISH_OK("sent %.400s %s received %s %s", word[3], sent_hex, received, received_hex);
}

/* ---- echo ---- */

/* One end that sends a stream and expects it back: both directions flow at once, and neither is half-closed. */
struct echo_client {
	int fd;
	int connected;
	uint64_t sent, received;
	struct stream sending, expecting;
	uint8_t chunk[4096];
	size_t chunk_at, chunk_length;
};

static void echo_client_write(struct echo_client *client, uint64_t total)
{
	if (client->chunk_at == client->chunk_length) {
		uint64_t left = total - client->sent;

		client->chunk_at = 0;
		client->chunk_length = left < sizeof client->chunk ? left : sizeof client->chunk;
		stream_fill(&client->sending, client->chunk, client->chunk_length);
	}
	ssize_t n = send(client->fd, client->chunk + client->chunk_at, client->chunk_length - client->chunk_at,
			 MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN)
		FINISH_FAIL("send after %llu bytes: %s", (unsigned long long)client->sent, strerrorname_np(errno));
	if (n > 0) {
		client->chunk_at += n;
		client->sent += n;
	}
}

/* Returns 1 when everything has come back. */
static int echo_client_read(struct echo_client *client, uint64_t total)
{
	static uint8_t data[CHUNK_BYTES], expected[CHUNK_BYTES];
	ssize_t n = recv(client->fd, data, sizeof data, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < 0)
		FINISH_FAIL("receive after %llu bytes: %s", (unsigned long long)client->received,
			    strerrorname_np(errno));
	if (n == 0)
		FINISH_FAIL("end of stream after %llu bytes", (unsigned long long)client->received);
	stream_fill(&client->expecting, expected, n);
	if (memcmp(data, expected, n))
		FINISH_FAIL("wrong data near byte %llu", (unsigned long long)client->received);
	client->received += n;
	return client->received == total;
}

static void echo_client_connected(struct echo_client *client)
{
	int error = 0;
	socklen_t length = sizeof error;

	getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error)
		FINISH_FAIL("connect: %s", strerrorname_np(error));
	client->connected = 1;
}

/* echo-client <target> <connections> <bytes> <seed>: nothing is sent before every connection stands */
static void command_echo_client(char **word)
{
	int count = atoi(word[1]), standing = 0, finished = 0;
	uint64_t bytes = strtoull(word[2], NULL, 0);
	struct echo_client *clients = calloc(count, sizeof *clients);
	struct pollfd *polls = calloc(count, sizeof *polls);

	for (int i = 0; i < count; i++) {
		clients[i].fd = polls[i].fd = vsock_socket(SOCK_STREAM);
		stream_begin(&clients[i].sending, strtoul(word[3], NULL, 0) + i);
		clients[i].expecting = clients[i].sending;
		set_nonblocking(clients[i].fd);
		if (connect_to(clients[i].fd, word[0]) < 0 && errno != EINPROGRESS)
			FINISH_FAIL("connect %d: %s", i, strerrorname_np(errno));
	}
	while (finished < count) {
		for (int i = 0; i < count; i++) {
			struct echo_client *client = &clients[i];
			int may_send = standing == count && client->sent < bytes;

			polls[i].events = !client->connected ? POLLOUT : may_send ? POLLIN | POLLOUT : POLLIN;
		}
		if (poll(polls, count, -1) < 0)
			FINISH_FAIL("poll: %s", strerrorname_np(errno));
		for (int i = 0; i < count; i++) {
			struct echo_client *client = &clients[i];

			if (polls[i].fd < 0 || !polls[i].revents)
				continue;
			if (!client->connected) {
				echo_client_connected(client);
				standing++;
				continue;
			}
			if (polls[i].revents & POLLOUT)
				echo_client_write(client, bytes);
			if (polls[i].revents & (POLLIN | POLLHUP | POLLERR) && echo_client_read(client, bytes)) {
				polls[i].fd = -1;
				close(client->fd);
				finished++;
			}
		}
	}
	FINISH_OK("%d connections, %llu bytes each", count, (unsigned long long)bytes);
}

struct echo_server_connection {
	uint8_t data[16384];
	size_t at, length;
	int ended;
};

/* Returns 1 when the connection is over. */
static int echo_server_step(int fd, struct echo_server_connection *connection)
{
	if (connection->at == connection->length && !connection->ended) {
		ssize_t n = recv(fd, connection->data, sizeof connection->data, MSG_DONTWAIT);

		if (n < 0)
			return errno != EAGAIN;
		connection->at = 0;
		connection->length = n;
		connection->ended = n == 0;
	}
	if (connection->at < connection->length) {
		ssize_t n = send(fd, connection->data + connection->at, connection->length - connection->at,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return errno != EAGAIN;
		connection->at += n;
	}
	return connection->ended && connection->at == connection->length;
}

/* echo-server <port>: serves until it is killed */
static void command_echo_server(char **word)
{
	static struct pollfd polls[MAX_CONNECTIONS + 1];
	static struct echo_server_connection *connections[MAX_CONNECTIONS + 1];
	int count = 1;

	polls[0].fd = listen_on(word[0], SOCK_STREAM);
	polls[0].events = POLLIN;
	set_nonblocking(polls[0].fd);
	for (;;) {
		if (poll(polls, count, -1) < 0)
			FINISH_FAIL("poll: %s", strerrorname_np(errno));
		for (int i = count - 1; i > 0; i--) {
			if (polls[i].revents && echo_server_step(polls[i].fd, connections[i])) {
				close(polls[i].fd);
				free(connections[i]);
				count--;
				polls[i] = polls[count];
				connections[i] = connections[count];
				continue;
			}
			polls[i].events = connections[i]->at < connections[i]->length ? POLLOUT : POLLIN;
		}
		if (polls[0].revents && count <= MAX_CONNECTIONS) {
			int fd = accept(polls[0].fd, NULL, NULL);

			if (fd >= 0) {
				polls[count].fd = fd;
				polls[count].events = POLLIN;
				polls[count].revents = 0;
				connections[count++] = calloc(1, sizeof **connections);
			} else if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
				FINISH_FAIL("accept: %s", strerrorname_np(errno));
			}
		}
	}
}

/* connect <target>: reports how a connect ends, and nothing else */
static void command_connect(char **word)
{
	int fd = vsock_socket(SOCK_STREAM);

	if (connect_to(fd, word[0]) < 0)
		FINISH_OK("%s", strerrorname_np(errno));
	FINISH_OK("connected");
}

/* ---- files: sysfs and procfs are most of what a test wants to know or change ---- */

static void log_lines(char *text)
{
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		say("LOG", job_id, "%.900s", line);
}

static void command_cat(char **word)
{
	static char text[262144];
	int fd = open(word[0], O_RDONLY);
	size_t used = 0;
	ssize_t n;

	if (fd < 0)
		FINISH_FAIL("open %s: %s", word[0], strerrorname_np(errno));
	while (used < sizeof text - 1 && (n = read(fd, text + used, sizeof text - 1 - used)) > 0)
		used += n;
	log_lines(text);
	FINISH_OK("%zu bytes", used);
}

static void command_list(char **word)
{
	DIR *directory = opendir(word[0]);
	struct dirent *entry;

	if (!directory)
		FINISH_FAIL("open %s: %s", word[0], strerrorname_np(errno));
	while ((entry = readdir(directory)))
		if (entry->d_name[0] != '.')
			say("LOG", job_id, "%s", entry->d_name);
	FINISH_OK("listed");
}

static void command_write(char **word)
{
	int fd = open(word[0], O_WRONLY);

	if (fd < 0)
		FINISH_FAIL("open %s: %s", word[0], strerrorname_np(errno));
	if (write(fd, word[1], strlen(word[1])) < 0)
		FINISH_FAIL("write %s: %s", word[0], strerrorname_np(errno));
	FINISH_OK("written");
}

static void command_dmesg(char **word)
{
	static char text[262144];
	int n = klogctl(3, text, sizeof text - 1);

	(void)word;
	if (n < 0)
		FINISH_FAIL("klogctl: %s", strerrorname_np(errno));
	log_lines(text);
	FINISH_OK("%d bytes", n);
}

static void command_reboot(char **word)
{
	(void)word;
	sync();
	reboot(RB_AUTOBOOT);
	FINISH_FAIL("reboot: %s", strerrorname_np(errno));
}

static void command_poweroff(char **word)
{
	(void)word;
	sync();
	reboot(RB_POWER_OFF);
	FINISH_FAIL("power off: %s", strerrorname_np(errno));
}

/* ---- jobs ---- */

static const struct command {
	const char *name;
	int words;
	void (*run)(char **word);
} commands[] = {
	{ "talk", 5, command_talk },
	{ "messages", 5, command_messages },
	{ "echo-client", 4, command_echo_client },
	{ "echo-server", 1, command_echo_server },
	{ "connect", 1, command_connect },
	{ "cat", 1, command_cat },
	{ "list", 1, command_list },
	{ "write", 2, command_write },
	{ "dmesg", 0, command_dmesg },
	{ "reboot", 0, command_reboot },
	{ "poweroff", 0, command_poweroff },
};

static struct {
	pid_t pid;
	char id[32];
} jobs[MAX_JOBS];

/* kill <id>: the job's own RESULT line follows from reap(); ours says only that the signal was sent */
static void kill_job(const char *id, const char *target)
{
	char answer[64];

	for (int i = 0; i < MAX_JOBS; i++) {
		if (jobs[i].pid > 0 && !strcmp(jobs[i].id, target)) {
			kill(jobs[i].pid, SIGKILL);
			snprintf(answer, sizeof answer, "%s ok", id);
			say("RESULT", answer, "signal sent");
			return;
		}
	}
	snprintf(answer, sizeof answer, "%s fail", id);
	say("RESULT", answer, "no job %s", target);
}

static void reap(void)
{
	char answer[64];
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < MAX_JOBS; i++) {
			if (jobs[i].pid != pid)
				continue;
			jobs[i].pid = 0;
			if (WIFSIGNALED(status)) {
				snprintf(answer, sizeof answer, "%s fail", jobs[i].id);
				say("RESULT", answer, "killed by signal %d", WTERMSIG(status));
			}
		}
	}
}

static void start_job(const char *id, const struct command *command, char **word)
{
	int slot = 0;

	while (slot < MAX_JOBS && jobs[slot].pid)
		slot++;
	pid_t pid = slot < MAX_JOBS ? fork() : -1;

	if (pid < 0) {
		job_id = id;
		char answer[64];
		snprintf(answer, sizeof answer, "%s fail", id);
		say("RESULT", answer, "no room for another job");
		return;
	}
	if (pid == 0) {
		job_id = id;
		command->run(word);
		FINISH_FAIL("the command returned without a result");
	}
	jobs[slot].pid = pid;
	snprintf(jobs[slot].id, sizeof jobs[slot].id, "%s", id);
}

static void handle_line(char *line)
{
	char *word[MAX_WORDS + 1];
	int count = 0;

	for (char *at = strtok(line, " \r\n"); at && count < MAX_WORDS; at = strtok(NULL, " \r\n"))
		word[count++] = at;
	if (count < 2)
		return;
	if (!strcmp(word[1], "kill") && count == 3) {
		kill_job(word[0], word[2]);
		return;
	}
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		if (!strcmp(word[1], commands[i].name) && count == commands[i].words + 2) {
			start_job(word[0], &commands[i], word + 2);
			return;
		}
	}
	char answer[64];

	snprintf(answer, sizeof answer, "%.40s fail", word[0]);
	say("RESULT", answer, "unknown command or wrong number of arguments");
}

/* ---- the first process ---- */

static void nothing(int signal)
{
	(void)signal;
}

int main(void)
{
	static char input[4096];
	struct sigaction child = { .sa_handler = nothing };
	struct rlimit files = { 4096, 4096 };
	struct utsname name;
	sigset_t blocked, none;
	size_t used = 0;

	control_fd = boot("/modules");
	setrlimit(RLIMIT_NOFILE, &files);
	uname(&name);
	say("READY", name.release, "%s", name.machine);
	/* A child's death is let in only by ppoll, which it ends: none is seen late, whenever it comes. */
	sigemptyset(&none);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	sigaction(SIGCHLD, &child, NULL);
	for (;;) {
		struct pollfd control = { .fd = control_fd, .events = POLLIN };

		ppoll(&control, 1, NULL, &none);
		reap();
		if (!(control.revents & POLLIN))
			continue;
		ssize_t n = read(control_fd, input + used, sizeof input - 1 - used);
		if (n <= 0)
			continue;
		used += n;
		input[used] = 0;
		for (char *end; (end = memchr(input, '\n', used));) {
			size_t length = end + 1 - input;

			*end = 0;
			handle_line(input);
			used -= length;
			memmove(input, end + 1, used + 1);
		}
		if (used == sizeof input - 1)
			used = 0;
	}
}
