/*
 * For a recording of gdb with vhost.gdb: requests of vhost with arguments that are to be read back, on a file that takes
 * none of them.
 */
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdint.h>
#include <sys/ioctl.h>

int main(void)
{
	int fd = open("/dev/null", O_RDWR), running = 1;
	uint64_t offered = 0, word = 3ull << 32, cid = 3;
	struct vhost_vring_state num = { .index = 1, .num = 256 };
	struct vhost_vring_file kick = { .index = 1, .fd = -1 };
	struct vhost_vring_addr addresses = { .index = 1,
					      .desc_user_addr = 0x100000000000,
					      .avail_user_addr = 0x100000001000,
					      .used_user_addr = 0x100000002000 };
	struct {
		struct vhost_memory head;
		struct vhost_memory_region regions[2];
	} memory = { .head = { .nregions = 2 },
		     .regions = { { .memory_size = 0xa0000, .userspace_addr = 0x100000000000 },
				  { .guest_phys_addr = 0x100000,
				    .memory_size = 0x40000000,
				    .userspace_addr = 0x100000100000 } } };

	ioctl(fd, VHOST_SET_OWNER, 0);
	ioctl(fd, VHOST_GET_FEATURES, &offered);
	ioctl(fd, VHOST_SET_FEATURES, &word);
	ioctl(fd, VHOST_SET_MEM_TABLE, &memory);
	ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, &cid);
	ioctl(fd, VHOST_SET_VRING_NUM, &num);
	ioctl(fd, VHOST_SET_VRING_ADDR, &addresses);
	ioctl(fd, VHOST_SET_VRING_KICK, &kick);
	ioctl(fd, VHOST_VSOCK_SET_RUNNING, &running);
	return 0;
}
