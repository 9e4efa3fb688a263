/**
 * Every request of the back-end, as data, sent on the socket of SET_BACKEND_REQ_FD. Source: vhost-user, Back-end
 * message types.
 */
import { PROTOCOL_F } from "../../virtio/index.js";
import { IOTLB_GATES, type MessageRecord, ONE_FD, OPTIONAL_FD, PLAIN, protocol } from "./message-record.js";

/** Requests of the back-end, by name without `VHOST_USER_BACKEND_` (formerly `VHOST_USER_SLAVE_`). */
export const BACKEND_MESSAGES = {
  IOTLB_MSG: { ...PLAIN, id: 1, request: "iotlb", gates: IOTLB_GATES },
  CONFIG_CHANGE_MSG: { ...PLAIN, id: 2, gates: protocol(PROTOCOL_F.CONFIG) },
  VRING_HOST_NOTIFIER_MSG: {
    ...PLAIN,
    id: 3,
    request: "vringArea",
    gates: protocol(PROTOCOL_F.HOST_NOTIFIER),
    fds: OPTIONAL_FD,
  },
  VRING_CALL: { ...PLAIN, id: 4, request: "vringState", gates: protocol(PROTOCOL_F.INBAND_NOTIFICATIONS) },
  VRING_ERR: { ...PLAIN, id: 5, request: "vringState", gates: protocol(PROTOCOL_F.INBAND_NOTIFICATIONS) },
  SHARED_OBJECT_ADD: {
    ...PLAIN,
    id: 6,
    request: "sharedObject",
    gates: protocol(PROTOCOL_F.SHARED_OBJECT),
  },
  SHARED_OBJECT_REMOVE: {
    ...PLAIN,
    id: 7,
    request: "sharedObject",
    gates: protocol(PROTOCOL_F.SHARED_OBJECT),
  },
  SHARED_OBJECT_LOOKUP: {
    ...PLAIN,
    id: 8,
    request: "sharedObject",
    reply: "u64",
    replies: "always",
    gates: protocol(PROTOCOL_F.SHARED_OBJECT),
    replyFds: OPTIONAL_FD,
    u64: { reply: "result" },
  },
  SHMEM_MAP: { ...PLAIN, id: 9, request: "shmemMap", gates: protocol(PROTOCOL_F.SHMEM), fds: ONE_FD },
  SHMEM_UNMAP: { ...PLAIN, id: 10, request: "shmemMap", gates: protocol(PROTOCOL_F.SHMEM) },
} as const satisfies Readonly<Record<string, MessageRecord>>;
