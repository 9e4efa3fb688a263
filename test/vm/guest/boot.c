#define _GNU_SOURCE
#include "boot.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

void console_message(const char *format, ...)
{
	char text[512];
	va_list arguments;
	int fd = open("/dev/console", O_WRONLY | O_NOCTTY);

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (fd >= 0) {
		dprintf(fd, "guest: %s\n", text);
		close(fd);
	}
}

static void load_modules(const char *list)
{
	static char text[8192];
	int fd = open(list, O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
		return;
	close(fd);
	for (char *path = strtok(text, "\n"); path; path = strtok(NULL, "\n")) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
			console_message("%s: %s", path, strerrorname_np(errno));
		if (fd >= 0)
			close(fd);
	}
}

/* The second serial port, as a line of bytes. */
static int open_control(void)
{
	struct termios terminal;
	int fd = open("/dev/ttyS1", O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0) {
		console_message("/dev/ttyS1: %s", strerrorname_np(errno));
		reboot(RB_POWER_OFF);
	}
	tcgetattr(fd, &terminal);
	cfmakeraw(&terminal);
	tcsetattr(fd, TCSANOW, &terminal);
	return fd;
}

int boot(const char *list)
{
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	load_modules(list);
	return open_control();
}
