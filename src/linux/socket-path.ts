/**
 * How long the path of a Unix socket may be. A file of its own, so that whoever checks a path before anything is opened
 * need not load the native binding.
 */

/** `sun_path` is 108 bytes with its terminating zero (include/uapi/linux/un.h). */
export const LONGEST_SOCKET_PATH_BYTES = 107;
