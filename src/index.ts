/**
 * The library: `import { createVsockDevice } from "bit33"`. Every export is named here, and a test holds the list.
 * docs/library.md introduces it; the doc comments are its reference.
 */
export { ConfigError, type ConfigErrorCode, StartError, type StartErrorCode } from "./config/errors.js";
export type { IotlbChoice } from "./device/config/vm-config.js";
export { VsockError, type VsockErrorCode } from "./device/library/errors.js";
export type { VsockDeviceOptions } from "./device/library/options.js";
export {
  createVsockDevice,
  type VsockConnectOptions,
  VsockDevice,
  type VsockDeviceEvents,
  type VsockListenOptions,
} from "./device/library/vsock-device.js";
export { VsockListener, type VsockListenerEvents } from "./device/library/vsock-listener.js";
export type { EventId } from "./log/events.js";
export type { FieldValue, LogLevel, LogRecord } from "./log/record.js";
