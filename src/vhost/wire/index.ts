// The public surface of src/vhost/wire: vhost-user messages as bytes, as values and as lines of text.
export { type DescribeOptions, describeFrame, describeIotlb, describeMessage } from "./describe.js";
export { type Outcome, WireError, type WireErrorCode } from "./error.js";
export { type Frame, FrameDecoder } from "./frame-decoder.js";
export { decodeHeader, encodeHeader, FLAG, HEADER, type Header, isReply, needsReply } from "./header.js";
export * as LAYOUTS from "./layouts.js";
export {
  HEADER_BYTES,
  MAX_CONFIG_BYTES,
  MAX_FDS_PER_MESSAGE,
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
export {
  BACKEND_MESSAGES,
  type BackendMessageName,
  type Channel,
  type FdRange,
  FRONTEND_MESSAGES,
  type FrontendMessageName,
  type Gate,
  isLegal,
  type MessageName,
  type MessageRecord,
  messageById,
  messageByName,
  messagesOf,
  type NamedMessage,
  type NegotiatedWords,
  type ReplyRule,
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
export { decodePackedBase, decodeSplitBase, encodePackedBase, type PackedBase } from "./vring-base.js";
