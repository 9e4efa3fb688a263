/** The public surface of src/vhost/wire: vhost-user messages as bytes, as values and as lines of text. */
export { BACKEND_MESSAGES } from "./backend-messages.js";
export {
  type DescribeOptions,
  describeFrame,
  describeIotlb,
  describeMessage,
  describeReply,
} from "./describe.js";
export { type Outcome, WireError, type WireErrorCode } from "./error.js";
export { type Frame, FrameDecoder } from "./frame-decoder.js";
export { FRONTEND_MESSAGES } from "./frontend-messages.js";
export { decodeHeader, encodeHeader, FLAG, HEADER, type Header, isReply, needsReply } from "./header.js";
export * as LAYOUTS from "./layouts.js";
export {
  HEADER_BYTES,
  MAX_CONFIG_BYTES,
  MAX_PAYLOAD_BYTES,
  MAX_SHMEM_REGIONS,
  MAX_TABLE_REGIONS,
} from "./limits.js";
export {
  decodeMessage,
  encodeAck,
  encodeFrame,
  encodeReply,
  encodeRequest,
  type Message,
} from "./message.js";
export type { Channel, FdRange, Gate, MessageRecord, ReplyRule, U64Meaning } from "./message-record.js";
export {
  type BackendMessageName,
  type FrontendMessageName,
  isLegal,
  type MessageName,
  messageById,
  messageByName,
  messagesOf,
  type NamedMessage,
  type NegotiatedWords,
  replyDue,
} from "./messages.js";
export {
  CONFIG_FLAG,
  decodePayload,
  encodePayload,
  IOTLB_PERM,
  IOTLB_TYPE,
  type IotlbMessage,
  isFault,
  type MemRegion,
  type Payload,
  type PayloadFault,
  type PayloadKind,
  type PayloadOf,
  VRING_FLAG_LOG,
} from "./payload.js";
export {
  decodePackedBase,
  decodeSplitBase,
  encodePackedBase,
  FIRST_PACKED_BASE,
  type PackedBase,
} from "./vring-base.js";
