/*
 * Plays VMM and driver on the guest's own /dev/vhost-vsock, one step a line, so that the real kernel can be compared
 * with a model of it. Process 1 of a guest without a vsock device; what the steps mean is known to the other side of
 * the line only (../kernel-script.ts).
 *
 * Over the second serial port, after "READY <kernel release>", each line is answered with one line:
 *   open <n>                                     opens device n; it is closed first if it was open
 *   close <n>
 *   memory <address> <bytes>                     maps zeroed memory there, in place of what was there
 *   ioctl <n> <name> <values ...>                numbers as in C; a descriptor is written "eventfd" or "none"
 *   write <n> <type> <iova> <size> <uaddr> <perm>   an IOTLB message
 *   questions <n>                                every IOTLB message that waits, each as <type>:<iova>:<perm>
 *   poke <address> <hex>                         stores bytes as a driver would
 *   peek <address> <bytes>
 *   kick <n> <ring>
 *   settle <n>                                   returns once the device has done all that it had to do
 *   signals <n> <ring>                           which eventfds have been signalled since they were last asked for
 * The answer is "ok", "ok <value>", or the name of an errno.
 */
#define _GNU_SOURCE
#include "boot.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { MAX_DEVICES = 2, MAX_RINGS = 2, MAX_WORDS = 64, LINE_BYTES = 4096, SETTLE_TURNS = 8 };
enum { KICK, CALL, ERR, EVENTFDS };

static struct device {
	int fd;
	/* VHOST_BACKEND_F_IOTLB_MSG_V2 was taken: IOTLB messages have the second form. */
	int msg_v2;
	int eventfd[MAX_RINGS][EVENTFDS];
} devices[MAX_DEVICES];

static char answer[LINE_BYTES];

#define ANSWER(...) ((void)snprintf(answer, sizeof answer, __VA_ARGS__))

static void answer_result(int result)
{
	if (result < 0)
		ANSWER("%s", strerrorname_np(errno));
	else
		ANSWER("ok");
}

static uint64_t number(const char *word)
{
	return strtoull(word, NULL, 0);
}

static struct device *device_of(const char *word)
{
	return &devices[number(word) % MAX_DEVICES];
}

/* ---- the device ---- */

static void close_device(struct device *device)
{
	if (device->fd >= 0)
		close(device->fd);
	for (int ring = 0; ring < MAX_RINGS; ring++) {
		for (int kind = 0; kind < EVENTFDS; kind++) {
			if (device->eventfd[ring][kind] >= 0)
				close(device->eventfd[ring][kind]);
			device->eventfd[ring][kind] = -1;
		}
	}
	device->fd = -1;
	device->msg_v2 = 0;
}

static void command_open(char **word)
{
	struct device *device = device_of(word[0]);

	close_device(device);
	device->fd = open("/dev/vhost-vsock", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	answer_result(device->fd);
}

static void command_close(char **word)
{
	close_device(device_of(word[0]));
	ANSWER("ok");
}

/* ---- ioctls: what each takes ---- */

enum argument { NOTHING, GIVES_U64, TAKES_U64, TAKES_INT, TAKES_STATE, GIVES_STATE, TAKES_ADDR, TAKES_FILE, TAKES_MEMORY };

static const struct request {
	const char *name;
	unsigned long number;
	enum argument argument;
	/* Which eventfd, for TAKES_FILE. */
	int kind;
} requests[] = {
	{ "VHOST_SET_OWNER", VHOST_SET_OWNER, NOTHING, 0 },
	{ "VHOST_GET_FEATURES", VHOST_GET_FEATURES, GIVES_U64, 0 },
	{ "VHOST_SET_FEATURES", VHOST_SET_FEATURES, TAKES_U64, 0 },
	{ "VHOST_GET_BACKEND_FEATURES", VHOST_GET_BACKEND_FEATURES, GIVES_U64, 0 },
	{ "VHOST_SET_BACKEND_FEATURES", VHOST_SET_BACKEND_FEATURES, TAKES_U64, 0 },
	{ "VHOST_SET_MEM_TABLE", VHOST_SET_MEM_TABLE, TAKES_MEMORY, 0 },
	{ "VHOST_SET_VRING_NUM", VHOST_SET_VRING_NUM, TAKES_STATE, 0 },
	{ "VHOST_SET_VRING_BASE", VHOST_SET_VRING_BASE, TAKES_STATE, 0 },
	{ "VHOST_GET_VRING_BASE", VHOST_GET_VRING_BASE, GIVES_STATE, 0 },
	{ "VHOST_SET_VRING_ADDR", VHOST_SET_VRING_ADDR, TAKES_ADDR, 0 },
	{ "VHOST_SET_VRING_KICK", VHOST_SET_VRING_KICK, TAKES_FILE, KICK },
	{ "VHOST_SET_VRING_CALL", VHOST_SET_VRING_CALL, TAKES_FILE, CALL },
	{ "VHOST_SET_VRING_ERR", VHOST_SET_VRING_ERR, TAKES_FILE, ERR },
	{ "VHOST_VSOCK_SET_GUEST_CID", VHOST_VSOCK_SET_GUEST_CID, TAKES_U64, 0 },
	{ "VHOST_VSOCK_SET_RUNNING", VHOST_VSOCK_SET_RUNNING, TAKES_INT, 0 },
};

static int take_state(int fd, unsigned long request, char **word, unsigned *num)
{
	struct vhost_vring_state state = { .index = number(word[0]), .num = word[1] ? number(word[1]) : 0 };
	int result = ioctl(fd, request, &state);

	*num = state.num;
	return result;
}

/* index desc used avail log */
static int take_addresses(int fd, unsigned long request, char **word)
{
	struct vhost_vring_addr addresses = {
		.index = number(word[0]),
		.desc_user_addr = number(word[1]),
		.used_user_addr = number(word[2]),
		.avail_user_addr = number(word[3]),
		.log_guest_addr = number(word[4]),
	};

	return ioctl(fd, request, &addresses);
}

static int take_eventfd(struct device *device, const struct request *request, char **word)
{
	struct vhost_vring_file file = { .index = number(word[0]), .fd = -1 };
	int *slot = &device->eventfd[file.index % MAX_RINGS][request->kind];

	if (!strcmp(word[1], "eventfd")) {
		if (*slot < 0)
			*slot = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		file.fd = *slot;
	}
	return ioctl(device->fd, request->number, &file);
}

/* Per region: guest address, size, user address */
static int take_memory(int fd, unsigned long request, char **word, int words)
{
	unsigned count = words / 3;
	struct vhost_memory *memory = calloc(1, sizeof *memory + count * sizeof *memory->regions);

	memory->nregions = count;
	for (unsigned i = 0; i < count; i++, word += 3) {
		memory->regions[i].guest_phys_addr = number(word[0]);
		memory->regions[i].memory_size = number(word[1]);
		memory->regions[i].userspace_addr = number(word[2]);
	}
	int result = ioctl(fd, request, memory);
	int error = errno;

	free(memory);
	errno = error;
	return result;
}

static void make_request(struct device *device, const struct request *request, char **word, int words)
{
	uint64_t value = words > 0 ? number(word[0]) : 0;
	int running = value;
	unsigned num = 0;

	switch (request->argument) {
	case NOTHING:
		answer_result(ioctl(device->fd, request->number, NULL));
		return;
	case GIVES_U64:
		if (ioctl(device->fd, request->number, &value) < 0)
			answer_result(-1);
		else
			ANSWER("ok 0x%llx", (unsigned long long)value);
		return;
	case TAKES_U64:
		answer_result(ioctl(device->fd, request->number, &value));
		if (request->number == VHOST_SET_BACKEND_FEATURES && !strcmp(answer, "ok"))
			device->msg_v2 = value >> VHOST_BACKEND_F_IOTLB_MSG_V2 & 1;
		return;
	case TAKES_INT:
		answer_result(ioctl(device->fd, request->number, &running));
		return;
	case TAKES_STATE:
		answer_result(take_state(device->fd, request->number, word, &num));
		return;
	case GIVES_STATE:
		if (take_state(device->fd, request->number, word, &num) < 0)
			answer_result(-1);
		else
			ANSWER("ok 0x%x", num);
		return;
	case TAKES_ADDR:
		answer_result(take_addresses(device->fd, request->number, word));
		return;
	case TAKES_FILE:
		answer_result(take_eventfd(device, request, word));
		return;
	case TAKES_MEMORY:
		answer_result(take_memory(device->fd, request->number, word, words));
		return;
	}
}

static void command_ioctl(char **word, int words)
{
	for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
		if (!strcmp(requests[i].name, word[1])) {
			make_request(device_of(word[0]), &requests[i], word + 2, words - 2);
			return;
		}
	}
	ANSWER("no request of that name");
}

/* ---- IOTLB messages ---- */

static void command_write(char **word)
{
	struct device *device = device_of(word[0]);
	struct vhost_iotlb_msg iotlb = {
		.type = number(word[1]),
		.iova = number(word[2]),
		.size = number(word[3]),
		.uaddr = number(word[4]),
		.perm = number(word[5]),
	};
	struct vhost_msg first = { .type = VHOST_IOTLB_MSG, .iotlb = iotlb };
	struct vhost_msg_v2 second = { .type = VHOST_IOTLB_MSG_V2, .iotlb = iotlb };
	ssize_t n = device->msg_v2 ? write(device->fd, &second, sizeof second) : write(device->fd, &first, sizeof first);

	answer_result(n);
}

/* A kernel without an IOTLB has no read() for this device, and answers EINVAL where others say EAGAIN. */
static void command_questions(char **word)
{
	struct device *device = device_of(word[0]);
	union {
		struct vhost_msg first;
		struct vhost_msg_v2 second;
	} message;
	size_t used = 2;

	ANSWER("ok");
	while (read(device->fd, &message, sizeof message) > 0 && used < sizeof answer) {
		const struct vhost_iotlb_msg *iotlb =
			message.first.type == VHOST_IOTLB_MSG ? &message.first.iotlb : &message.second.iotlb;

		used += snprintf(answer + used, sizeof answer - used, " %u:0x%llx:%u", iotlb->type,
				 (unsigned long long)iotlb->iova, iotlb->perm);
	}
}

/* ---- the driver ---- */

static void command_memory(char **word)
{
	void *wanted = (void *)number(word[0]);
	void *got = mmap(wanted, number(word[1]), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	answer_result(got == MAP_FAILED ? -1 : 0);
}

static void command_poke(char **word)
{
	volatile uint8_t *at = (uint8_t *)number(word[0]);

	for (const char *hex = word[1]; hex[0] && hex[1]; hex += 2) {
		unsigned byte;

		sscanf(hex, "%2x", &byte);
		*at++ = byte;
	}
	__sync_synchronize();
	ANSWER("ok");
}

static void command_peek(char **word)
{
	const volatile uint8_t *at = (uint8_t *)number(word[0]);
	size_t bytes = number(word[1]);

	__sync_synchronize();
	ANSWER("ok ");
	for (size_t i = 0; i < bytes && i < 256; i++)
		snprintf(answer + 3 + 2 * i, 3, "%02x", at[i]);
}

static void command_kick(char **word)
{
	uint64_t one = 1;
	int fd = device_of(word[0])->eventfd[number(word[1]) % MAX_RINGS][KICK];

	answer_result(write(fd, &one, sizeof one) < 0 ? -1 : 0);
}

/*
 * Signalling an eventfd queues the device's work before write() returns, and any request of the generic kind, even one
 * that is refused, waits for the work that is queued (vhost_vsock_dev_ioctl: vhost_vsock_flush). Work can queue more
 * work: an answer is sent by another one.
 */
static void command_settle(char **word)
{
	for (int i = 0; i < SETTLE_TURNS; i++)
		ioctl(device_of(word[0])->fd, VHOST_SET_OWNER, NULL);
	ANSWER("ok");
}

static int signalled(int fd)
{
	uint64_t count;

	return fd >= 0 && read(fd, &count, sizeof count) == sizeof count;
}

static void command_signals(char **word)
{
	int *eventfds = device_of(word[0])->eventfd[number(word[1]) % MAX_RINGS];
	int call = signalled(eventfds[CALL]), err = signalled(eventfds[ERR]);

	ANSWER("ok%s%s", call ? " call" : "", err ? " err" : "");
}

/* ---- lines ---- */

static void handle_line(char *line)
{
	static const struct {
		const char *name;
		int words;
		void (*run)(char **word);
	} commands[] = {
		{ "open", 1, command_open },   { "close", 1, command_close }, { "memory", 2, command_memory },
		{ "write", 6, command_write }, { "poke", 2, command_poke },
		{ "peek", 2, command_peek },   { "kick", 2, command_kick },   { "settle", 1, command_settle },
		{ "signals", 2, command_signals }, { "questions", 1, command_questions },
	};
	char *word[MAX_WORDS + 1] = { NULL };
	int count = 0;

	for (char *at = strtok(line, " \r\n"); at && count < MAX_WORDS; at = strtok(NULL, " \r\n"))
		word[count++] = at;
	ANSWER("no such step");
	if (count >= 3 && !strcmp(word[0], "ioctl"))
		command_ioctl(word + 1, count - 1);
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (count == commands[i].words + 1 && !strcmp(word[0], commands[i].name))
			commands[i].run(word + 1);
}

int main(void)
{
	int control = boot("/modules-vhost");
	FILE *lines = fdopen(dup(control), "r");
	struct utsname name;
	char line[LINE_BYTES];

	for (int n = 0; n < MAX_DEVICES; n++) {
		devices[n].fd = -1;
		memset(devices[n].eventfd, 0xff, sizeof devices[n].eventfd);
	}
	uname(&name);
	dprintf(control, "READY %s\n", name.release);
	while (lines && fgets(line, sizeof line, lines)) {
		handle_line(line);
		dprintf(control, "%s\n", answer);
	}
	console_message("the control line has ended");
	for (;;)
		pause();
}
