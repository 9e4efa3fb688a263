/** Limits of the vhost-user wire, with where each comes from. They bound what a peer can make us buffer. */

/** Bytes of the header: request, flags, size, 32 bits each. Fixed by the document. */
export const HEADER_BYTES = 12;

/**
 * Largest payload taken. Our choice: the largest legal message is the SHMEM configuration (8 + 256 × 8
 * bytes), the largest memory table below is 8 + 32 × 40; a size above this is a broken peer, not a message.
 */
export const MAX_PAYLOAD_BYTES = 4096;

/**
 * Regions of one SET_MEM_TABLE. The document draws 8 and QEMU sends at most 8; rust-vmm takes 32, so do we.
 * More regions than that come one at a time with ADD_MEM_REG.
 */
export const MAX_TABLE_REGIONS = 32;

/** Bytes of configuration space in one message (QEMU VHOST_USER_MAX_CONFIG_SIZE). */
export const MAX_CONFIG_BYTES = 256;

/** VIRTIO shared memory regions in one GET_SHMEM_CONFIG reply: region ids have 8 bits. */
export const MAX_SHMEM_REGIONS = 256;
