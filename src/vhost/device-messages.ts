/**
 * Messages about the device as a whole: status, reset, configuration space.
 */

import { STATUS } from "../virtio/index.js";
import { DONE, type Handler, refused, reply, replyU64, taking } from "./answer.js";

const LARGEST_STATUS = 0xffn;

/** "disable all rings and reset all internal device state to the initial state"; memory and channel stay. */
export const resetDevice: Handler = (session) => {
  session.resetDevice("the front-end reset the device");
  return DONE;
};

export const getStatus: Handler = (session) => {
  const needsReset = session.rings.anyBroken ? STATUS.DEVICE_NEEDS_RESET : 0;
  return replyU64(BigInt(session.status | needsReset));
};

/** Writing 0 resets (VIRTIO, Device Status Field). QEMU sets FEATURES_OK for vsock and never DRIVER_OK. */
export const setStatus = taking("u64", (session, { value }) => {
  if (value > LARGEST_STATUS) return refused(`a status has 8 bits, ${value} has more`);
  if (value === 0n) session.resetDevice("the driver wrote status 0");
  session.status = Number(value);
  return DONE;
});

/** "back-end uses zero length of payload to indicate an error" (VHOST_USER_GET_CONFIG). */
export const getConfig = taking("config", (session, { offset, flags, data }) => {
  const bytes = session.device.readConfig(offset, data.length);
  if (bytes === undefined) return refused(`there is no configuration of ${data.length} bytes at ${offset}`);
  return reply({ kind: "config", offset, flags, data: bytes });
});

/** Nothing in a vsock device's configuration can be written by the driver. */
export const setConfig: Handler = () => refused("the configuration space is read-only");
