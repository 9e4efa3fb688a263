/*
 * For recordings of the real strace: as the first process of a guest it runs itself under strace once for each way to
 * drive the guest's own /dev/vhost-vsock, and copies what strace wrote to the control line between "TRACE <name>" and
 * "END". Which traces there are is at the bottom; what is to be seen in them, only the readers know
 * (../strace/recorded.test.ts).
 */
#define _GNU_SOURCE
#include "../vm/guest/boot.h"
#include <fcntl.h>
#include <linux/vhost.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#define BIT(n) (1ull << (n))
enum { RINGS = 2, RING_SIZE = 8, PAGE = 0x1000, PAGES = 16 };

/* Where the memory of the "guest" is for each of the three parties that name addresses. */
static const uint64_t USER = 0x100000000000, GPA = 0x100000, IOVA = 0xfff00000;
static const uint64_t VERSION_1 = BIT(32), ACCESS_PLATFORM = BIT(33);

static uint64_t area(uint64_t space, int ring, int which)
{
	return space + (ring * 3 + which) * PAGE;
}

static void set_up_device(int fd, uint64_t word)
{
	uint64_t offered = 0, cid = 3;
	struct {
		struct vhost_memory head;
		struct vhost_memory_region region;
	} memory = { .head = { .nregions = 1 },
		     .region = { .guest_phys_addr = GPA, .memory_size = PAGES * PAGE, .userspace_addr = USER } };

	ioctl(fd, VHOST_SET_OWNER, 0);
	ioctl(fd, VHOST_GET_FEATURES, &offered);
	ioctl(fd, VHOST_SET_FEATURES, &word);
	ioctl(fd, VHOST_SET_MEM_TABLE, &memory);
	ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, &cid);
}

static void set_up_rings(int fd, uint64_t space, int *kick)
{
	for (unsigned ring = 0; ring < RINGS; ring++) {
		struct vhost_vring_state num = { .index = ring, .num = RING_SIZE }, base = { .index = ring };
		struct vhost_vring_addr addresses = { .index = ring,
						      .desc_user_addr = area(space, ring, 0),
						      .avail_user_addr = area(space, ring, 1),
						      .used_user_addr = area(space, ring, 2) };
		struct vhost_vring_file file = { .index = ring, .fd = eventfd(0, EFD_CLOEXEC) };

		kick[ring] = file.fd;
		ioctl(fd, VHOST_SET_VRING_NUM, &num);
		ioctl(fd, VHOST_SET_VRING_BASE, &base);
		ioctl(fd, VHOST_SET_VRING_ADDR, &addresses);
		ioctl(fd, VHOST_SET_VRING_KICK, &file);
		ioctl(fd, VHOST_SET_VRING_CALL, &file);
	}
}

static void set_running(int fd, int running)
{
	ioctl(fd, VHOST_VSOCK_SET_RUNNING, &running);
}

static void stop_rings(int fd)
{
	set_running(fd, 0);
	for (unsigned ring = 0; ring < RINGS; ring++) {
		struct vhost_vring_state base = { .index = ring };

		ioctl(fd, VHOST_GET_VRING_BASE, &base);
	}
}

static void map_page(int fd, uint64_t iova)
{
	struct vhost_msg_v2 update = { .type = VHOST_IOTLB_MSG_V2,
				       .iotlb = { .type = VHOST_IOTLB_UPDATE,
						  .iova = iova,
						  .size = PAGE,
						  .uaddr = iova - IOVA + USER,
						  .perm = VHOST_ACCESS_RW } };

	if (write(fd, &update, sizeof update) != sizeof update)
		console_message("the UPDATE was refused");
}

static int answered;

/* A thread of its own that waits for questions, so that its reads are cut in two by the calls of the other one. */
static void *answer_questions(void *opaque)
{
	int fd = *(int *)opaque;
	struct vhost_msg_v2 question;

	while (read(fd, &question, sizeof question) == sizeof question) {
		map_page(fd, question.iotlb.iova & ~(uint64_t)(PAGE - 1));
		__atomic_add_fetch(&answered, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* As QEMU does it behind a vIOMMU: used rings are mapped before the start, the rest when it is asked for. */
static int play_translating(void)
{
	uint64_t offered = 0, word = BIT(VHOST_BACKEND_F_IOTLB_MSG_V2), one = 1;
	int kick[RINGS], fd = open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC);
	pthread_t reader;

	ioctl(fd, VHOST_GET_BACKEND_FEATURES, &offered);
	ioctl(fd, VHOST_SET_BACKEND_FEATURES, &word);
	set_up_device(fd, VERSION_1 | ACCESS_PLATFORM);
	set_up_rings(fd, IOVA, kick);
	pthread_create(&reader, NULL, answer_questions, &fd);
	for (int ring = 0; ring < RINGS; ring++)
		map_page(fd, area(IOVA, ring, 2));
	set_running(fd, 1);
	/* Two areas of each ring are asked for, one after the other, as soon as somebody kicks. */
	for (int ring = 0; ring < RINGS; ring++)
		if (write(kick[ring], &one, sizeof one) != sizeof one)
			return 1;
	for (int turns = 0; turns < 1000 && __atomic_load_n(&answered, __ATOMIC_SEQ_CST) < 2 * RINGS; turns++)
		usleep(1000);
	stop_rings(fd);
	return 0;
}

/* As crosvm did in July 2022: bit 33 is handed on, and nobody maps anything. */
static int play_handing_on(void)
{
	int kick[RINGS], fd = open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC);

	set_up_device(fd, VERSION_1 | ACCESS_PLATFORM);
	set_up_rings(fd, USER, kick);
	set_running(fd, 1);
	close(fd);
	return 0;
}

/* The device is opened by one process and driven by another, through a duplicate. */
static int play_forking(void)
{
	int kick[RINGS], fd = open("/dev/vhost-vsock", O_RDWR);
	pid_t child = fork();

	if (child == 0) {
		int other = dup(fd);

		close(fd);
		set_up_device(other, VERSION_1);
		set_up_rings(other, USER, kick);
		set_running(other, 1);
		stop_rings(other);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	close(fd);
	return 0;
}

static int play(const char *name)
{
	mmap((void *)USER, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (!strcmp(name, "translating"))
		return play_translating();
	if (!strcmp(name, "forking"))
		return play_forking();
	return play_handing_on();
}

/* ---- the first process ---- */

static void copy_trace(int control)
{
	FILE *trace = fopen("/trace", "r");
	char line[4096];

	while (trace && fgets(line, sizeof line, trace))
		dprintf(control, "%s", line);
	if (trace)
		fclose(trace);
	unlink("/trace");
}

static void record(int control, const char *name, const char *player, const char *const *options)
{
	const char *words[32] = { "/strace", "-f", "-s", "128", "-xx", "-o", "/trace" };
	int count = 7;
	pid_t child;

	while (*options)
		words[count++] = *options++;
	words[count++] = "/traced-vmm";
	words[count++] = player;
	child = fork();
	if (child == 0) {
		execv(words[0], (char *const *)words);
		_exit(127);
	}
	int status = 0;

	waitpid(child, &status, 0);
	dprintf(control, "TRACE %s\n", name);
	copy_trace(control);
	dprintf(control, "END %d\n", status);
}

int main(int count, char **words)
{
	/* What docs/strace.md begins with, and what it says to use where descriptors travel. */
	static const char *const plain[] = { "-e", "trace=ioctl,openat,read,write", NULL };
	static const char *const more[] = { "-ttt", "-y", "-e", "trace=ioctl,openat,read,write,close,dup,dup2,dup3,fcntl,clone,clone3,fork,vfork", NULL };
	/* What strace shows if nobody asks for more, and its other ways to write numbers, files and times. */
	static const char *const cut[] = { "-s", "32", "-tt", "-e", "trace=ioctl,openat,read,write", NULL };
	static const char *const raw[] = { "-X", "raw", "-yy", "-r", "-T", "-e", "trace=ioctl,openat,read,write,close", NULL };
	int control;

	if (count > 1)
		return play(words[1]);
	control = boot("/modules-vhost");
	dprintf(control, "READY\n");
	record(control, "translating", "translating", plain);
	record(control, "translating-more", "translating", more);
	record(control, "handing-on", "handing-on", plain);
	record(control, "handing-on-more", "handing-on", more);
	record(control, "translating-cut", "translating", cut);
	record(control, "handing-on-raw", "handing-on", raw);
	record(control, "forking", "forking", plain);
	record(control, "forking-more", "forking", more);
	dprintf(control, "DONE\n");
	reboot(RB_POWER_OFF);
}
