-- Wireshark and tshark dissector for the vhost-user messages that `bit33 inspect --capture` keeps (link type USER0).
-- How to install and use it: docs/captures.md of bit33. SPDX-License-Identifier: Apache-2.0
--
-- The names between the two marks below are made from bit33's own tables by `npm run docs`.

-- names: begin
local KINDS = {
  [0] = "message",
  [1] = "begun",
  [2] = "ended",
  [3] = "remark",
  [4] = "time",
  [5] = "rings",
}
local CHANNELS = {
  [0] = "main",
  [1] = "backend",
}
local DIRECTIONS = {
  [0] = "to-backend",
  [1] = "to-frontend",
}
local ENDERS = {
  [0] = "front-end",
  [1] = "back-end",
  [2] = "observer",
}
local DESCRIPTOR_KINDS = {
  [0] = "memory",
  [1] = "eventfd",
  [2] = "socket",
  [3] = "pipe",
  [4] = "other",
}
local FEATURES = {
  [24] = "NOTIFY_ON_EMPTY",
  [26] = "LOG_ALL",
  [27] = "ANY_LAYOUT",
  [28] = "INDIRECT_DESC",
  [29] = "EVENT_IDX",
  [30] = "PROTOCOL_FEATURES",
  [32] = "VERSION_1",
  [33] = "ACCESS_PLATFORM",
  [34] = "RING_PACKED",
  [35] = "IN_ORDER",
  [36] = "ORDER_PLATFORM",
  [37] = "SR_IOV",
  [38] = "NOTIFICATION_DATA",
  [39] = "NOTIF_CONFIG_DATA",
  [40] = "RING_RESET",
  [41] = "ADMIN_VQ",
  [42] = "SUSPEND_CROSVM",
  [43] = "SUSPEND",
}
local VSOCK_FEATURES = {
  [0] = "VSOCK_STREAM",
  [1] = "VSOCK_SEQPACKET",
  [2] = "VSOCK_NO_IMPLIED_STREAM",
  [3] = "VSOCK_DGRAM",
}
local PROTOCOL_FEATURES = {
  [0] = "MQ",
  [1] = "LOG_SHMFD",
  [2] = "RARP",
  [3] = "REPLY_ACK",
  [4] = "MTU",
  [5] = "BACKEND_REQ",
  [6] = "CROSS_ENDIAN",
  [7] = "CRYPTO_SESSION",
  [8] = "PAGEFAULT",
  [9] = "CONFIG",
  [10] = "BACKEND_SEND_FD",
  [11] = "HOST_NOTIFIER",
  [12] = "INFLIGHT_SHMFD",
  [13] = "RESET_DEVICE",
  [14] = "INBAND_NOTIFICATIONS",
  [15] = "CONFIGURE_MEM_SLOTS",
  [16] = "STATUS",
  [17] = "XEN_MMAP",
  [18] = "SHARED_OBJECT",
  [19] = "DEVICE_STATE",
  [20] = "GET_VRING_BASE_INFLIGHT",
  [21] = "GPA_ADDRESSES",
  [22] = "SHMEM",
  [23] = "GET_VRING_BASE_SKIP_DRAIN",
  [62] = "IOTLB",
}
local STATUS = {
  [0] = "ACKNOWLEDGE",
  [1] = "DRIVER",
  [2] = "DRIVER_OK",
  [3] = "FEATURES_OK",
  [4] = "SUSPEND",
  [6] = "DEVICE_NEEDS_RESET",
  [7] = "FAILED",
}
local MESSAGES = {
  [0] = {
    [1] = { name = "GET_FEATURES", request = { "none" }, reply = { "u64", "none" }, ask = "number", answer = "features" },
    [2] = { name = "SET_FEATURES", request = { "u64" }, reply = { "u64" }, ask = "features", answer = "result" },
    [3] = { name = "SET_OWNER", request = { "none" }, reply = { "u64" }, ask = "number", answer = "result" },
    [4] = { name = "RESET_OWNER", request = { "none" }, reply = { "u64" }, ask = "number", answer = "result" },
    [5] = { name = "SET_MEM_TABLE", request = { "memTable" }, reply = { "u64", "memTable" }, ask = "number", answer = "result" },
    [6] = { name = "SET_LOG_BASE", request = { "log", "u64" }, reply = { "u64", "none" }, ask = "number", answer = "result" },
    [7] = { name = "SET_LOG_FD", request = { "none" }, reply = { "u64" }, ask = "number", answer = "result" },
    [8] = { name = "SET_VRING_NUM", request = { "vringState" }, reply = { "u64" }, ask = "number", answer = "result" },
    [9] = { name = "SET_VRING_ADDR", request = { "vringAddr" }, reply = { "u64" }, ask = "number", answer = "result" },
    [10] = { name = "SET_VRING_BASE", request = { "vringState" }, reply = { "u64" }, ask = "number", answer = "result" },
    [11] = { name = "GET_VRING_BASE", request = { "vringState" }, reply = { "vringState", "none" }, ask = "number", answer = "result" },
    [12] = { name = "SET_VRING_KICK", request = { "vringFd" }, reply = { "u64" }, ask = "number", answer = "result" },
    [13] = { name = "SET_VRING_CALL", request = { "vringFd" }, reply = { "u64" }, ask = "number", answer = "result" },
    [14] = { name = "SET_VRING_ERR", request = { "vringFd" }, reply = { "u64" }, ask = "number", answer = "result" },
    [15] = { name = "GET_PROTOCOL_FEATURES", request = { "none" }, reply = { "u64", "none" }, ask = "number", answer = "protocolFeatures" },
    [16] = { name = "SET_PROTOCOL_FEATURES", request = { "u64" }, reply = { "u64" }, ask = "protocolFeatures", answer = "result" },
    [17] = { name = "GET_QUEUE_NUM", request = { "none" }, reply = { "u64", "none" }, ask = "number", answer = "count" },
    [18] = { name = "SET_VRING_ENABLE", request = { "vringState" }, reply = { "u64" }, ask = "number", answer = "result" },
    [19] = { name = "SEND_RARP", request = { "u64" }, reply = { "u64" }, ask = "number", answer = "result" },
    [20] = { name = "NET_SET_MTU", request = { "u64" }, reply = { "u64" }, ask = "count", answer = "result" },
    [21] = { name = "SET_BACKEND_REQ_FD", request = { "none" }, reply = { "u64" }, ask = "number", answer = "result" },
    [22] = { name = "IOTLB_MSG", request = { "iotlb" }, reply = { "u64", "none" }, ask = "number", answer = "result" },
    [23] = { name = "SET_VRING_ENDIAN", request = { "vringState" }, reply = { "u64" }, ask = "number", answer = "result" },
    [24] = { name = "GET_CONFIG", request = { "config" }, reply = { "config", "none" }, ask = "number", answer = "result" },
    [25] = { name = "SET_CONFIG", request = { "config" }, reply = { "u64" }, ask = "number", answer = "result" },
    [26] = { name = "CREATE_CRYPTO_SESSION", request = { "opaque" }, reply = { "opaque", "none" }, ask = "number", answer = "result" },
    [27] = { name = "CLOSE_CRYPTO_SESSION", request = { "u64" }, reply = { "u64" }, ask = "number", answer = "result" },
    [28] = { name = "POSTCOPY_ADVISE", request = { "none" }, reply = { "opaque", "none" }, ask = "number", answer = "result" },
    [29] = { name = "POSTCOPY_LISTEN", request = { "none" }, reply = { "u64" }, ask = "number", answer = "result" },
    [30] = { name = "POSTCOPY_END", request = { "none" }, reply = { "u64", "none" }, ask = "number", answer = "result" },
    [31] = { name = "GET_INFLIGHT_FD", request = { "inflight" }, reply = { "inflight", "none" }, ask = "number", answer = "result" },
    [32] = { name = "SET_INFLIGHT_FD", request = { "inflight" }, reply = { "u64" }, ask = "number", answer = "result" },
    [33] = { name = "GPU_SET_SOCKET", request = { "none" }, reply = { "u64" }, ask = "number", answer = "result" },
    [34] = { name = "RESET_DEVICE", request = { "none" }, reply = { "u64" }, ask = "number", answer = "result" },
    [35] = { name = "VRING_KICK", request = { "vringState" }, reply = { "u64" }, ask = "number", answer = "result" },
    [36] = { name = "GET_MAX_MEM_SLOTS", request = { "none" }, reply = { "u64", "none" }, ask = "number", answer = "count" },
    [37] = { name = "ADD_MEM_REG", request = { "memRegion" }, reply = { "u64", "memRegion" }, ask = "number", answer = "result" },
    [38] = { name = "REM_MEM_REG", request = { "memRegion" }, reply = { "u64" }, ask = "number", answer = "result" },
    [39] = { name = "SET_STATUS", request = { "u64" }, reply = { "u64" }, ask = "status", answer = "result" },
    [40] = { name = "GET_STATUS", request = { "none" }, reply = { "u64", "none" }, ask = "number", answer = "status" },
    [41] = { name = "GET_SHARED_OBJECT", request = { "sharedObject" }, reply = { "opaque", "none" }, ask = "number", answer = "result" },
    [42] = { name = "SET_DEVICE_STATE_FD", request = { "deviceState" }, reply = { "u64", "none" }, ask = "number", answer = "result" },
    [43] = { name = "CHECK_DEVICE_STATE", request = { "none" }, reply = { "u64", "none" }, ask = "number", answer = "result" },
    [44] = { name = "GET_SHMEM_CONFIG", request = { "none" }, reply = { "shmemConfig", "none" }, ask = "number", answer = "result" },
  },
  [1] = {
    [1] = { name = "BACKEND_IOTLB_MSG", request = { "iotlb" }, reply = { "u64" }, ask = "number", answer = "result" },
    [2] = { name = "BACKEND_CONFIG_CHANGE_MSG", request = { "none" }, reply = { "u64" }, ask = "number", answer = "result" },
    [3] = { name = "BACKEND_VRING_HOST_NOTIFIER_MSG", request = { "vringArea" }, reply = { "u64" }, ask = "number", answer = "result" },
    [4] = { name = "BACKEND_VRING_CALL", request = { "vringState" }, reply = { "u64" }, ask = "number", answer = "result" },
    [5] = { name = "BACKEND_VRING_ERR", request = { "vringState" }, reply = { "u64" }, ask = "number", answer = "result" },
    [6] = { name = "BACKEND_SHARED_OBJECT_ADD", request = { "sharedObject" }, reply = { "u64" }, ask = "number", answer = "result" },
    [7] = { name = "BACKEND_SHARED_OBJECT_REMOVE", request = { "sharedObject" }, reply = { "u64" }, ask = "number", answer = "result" },
    [8] = { name = "BACKEND_SHARED_OBJECT_LOOKUP", request = { "sharedObject" }, reply = { "u64", "none" }, ask = "number", answer = "result" },
    [9] = { name = "BACKEND_SHMEM_MAP", request = { "shmemMap" }, reply = { "u64" }, ask = "number", answer = "result" },
    [10] = { name = "BACKEND_SHMEM_UNMAP", request = { "shmemMap" }, reply = { "u64" }, ask = "number", answer = "result" },
  },
}
local LAYOUTS = {
  vringState = { -- struct vhost_vring_state
    name = "vring_state",
    bytes = 8,
    fields = {
      { name = "index", label = "Index", offset = 0, width = 4 },
      { name = "num", label = "Num", offset = 4, width = 4 },
    },
  },
  vringAddr = { -- struct vhost_vring_addr
    name = "vring_addr",
    bytes = 40,
    fields = {
      { name = "index", label = "Index", offset = 0, width = 4 },
      { name = "flags", label = "Flags", offset = 4, width = 4 },
      { name = "desc", label = "Desc", offset = 8, width = 8 },
      { name = "used", label = "Used", offset = 16, width = 8 },
      { name = "avail", label = "Avail", offset = 24, width = 8 },
      { name = "log", label = "Log", offset = 32, width = 8 },
    },
  },
  region = { -- VhostUserMemoryRegion
    name = "region",
    bytes = 32,
    fields = {
      { name = "guest_address", label = "Guest address", offset = 0, width = 8 },
      { name = "size", label = "Size", offset = 8, width = 8 },
      { name = "user_address", label = "User address", offset = 16, width = 8 },
      { name = "mmap_offset", label = "Mmap offset", offset = 24, width = 8 },
    },
  },
  log = { -- VhostUserLog
    name = "log",
    bytes = 16,
    fields = {
      { name = "size", label = "Size", offset = 0, width = 8 },
      { name = "offset", label = "Offset", offset = 8, width = 8 },
    },
  },
  iotlb = { -- struct vhost_iotlb_msg
    name = "iotlb",
    bytes = 32,
    fields = {
      { name = "iova", label = "Iova", offset = 0, width = 8 },
      { name = "size", label = "Size", offset = 8, width = 8 },
      { name = "user_address", label = "User address", offset = 16, width = 8 },
      { name = "perm", label = "Perm", offset = 24, width = 1, values = { [0] = "none", [1] = "r", [2] = "w", [3] = "rw" } },
      { name = "type", label = "Type", offset = 25, width = 1, values = { [1] = "MISS", [2] = "UPDATE", [3] = "INVALIDATE", [4] = "ACCESS_FAIL", [5] = "BATCH_BEGIN", [6] = "BATCH_END" } },
    },
  },
  configHead = { -- VhostUserConfig
    name = "config_head",
    bytes = 12,
    fields = {
      { name = "offset", label = "Offset", offset = 0, width = 4 },
      { name = "size", label = "Size", offset = 4, width = 4 },
      { name = "flags", label = "Flags", offset = 8, width = 4 },
    },
  },
  vringArea = { -- VhostUserVringArea
    name = "vring_area",
    bytes = 24,
    fields = {
      { name = "vring", label = "Vring", offset = 0, width = 8 },
      { name = "size", label = "Size", offset = 8, width = 8 },
      { name = "offset", label = "Offset", offset = 16, width = 8 },
    },
  },
  inflight = { -- VhostUserInflight
    name = "inflight",
    bytes = 20,
    fields = {
      { name = "mmap_size", label = "Mmap size", offset = 0, width = 8 },
      { name = "mmap_offset", label = "Mmap offset", offset = 8, width = 8 },
      { name = "queue_count", label = "Queue count", offset = 16, width = 2 },
      { name = "queue_size", label = "Queue size", offset = 18, width = 2 },
    },
  },
  sharedObject = { -- VhostUserShared
    name = "shared_object",
    bytes = 16,
    fields = {
      { name = "uuid", label = "Uuid", offset = 0, width = 16 },
    },
  },
  deviceState = { -- VhostUserTransferDeviceState
    name = "device_state",
    bytes = 8,
    fields = {
      { name = "direction", label = "Direction", offset = 0, width = 4 },
      { name = "phase", label = "Phase", offset = 4, width = 4 },
    },
  },
  shmemMap = { -- VhostUserMMap
    name = "shmem_map",
    bytes = 40,
    fields = {
      { name = "shmid", label = "Shmid", offset = 0, width = 1 },
      { name = "fd_offset", label = "Fd offset", offset = 8, width = 8 },
      { name = "shm_offset", label = "Shm offset", offset = 16, width = 8 },
      { name = "size", label = "Size", offset = 24, width = 8 },
      { name = "flags", label = "Flags", offset = 32, width = 8 },
    },
  },
}
-- names: end

local proto = Proto("vhost_user", "vhost-user")

proto.prefs.device = Pref.enum("Device type", 0, "Names for the feature bits of this type", {
  { 1, "unknown", 0 },
  { 2, "vsock", 1 },
})

local LINK_BYTES = 20
local HEADER_BYTES = 12
-- Bits of the header's flags: the kinds of descriptors follow; the message's own flags.
local KINDS_FOLLOW, IS_REPLY, NEEDS_REPLY = 0, 2, 3

local fields = {
  session = ProtoField.uint32("vhost_user.session", "Session"),
  kind = ProtoField.uint8("vhost_user.kind", "Kind", base.DEC, KINDS),
  channel = ProtoField.uint8("vhost_user.channel", "Channel", base.DEC, CHANNELS),
  direction = ProtoField.uint8("vhost_user.direction", "Direction", base.DEC, DIRECTIONS),
  ender = ProtoField.uint8("vhost_user.ender", "Ended by", base.DEC, ENDERS),
  fds = ProtoField.uint16("vhost_user.fds", "Descriptors"),
  fd_kind = ProtoField.uint8("vhost_user.fd_kind", "Descriptor", base.DEC, DESCRIPTOR_KINDS),
  text = ProtoField.string("vhost_user.text", "Text"),
  request = ProtoField.uint32("vhost_user.request", "Request"),
  name = ProtoField.string("vhost_user.name", "Message"),
  version = ProtoField.uint32("vhost_user.version", "Version", base.DEC, nil, 0x3),
  reply = ProtoField.bool("vhost_user.reply", "Reply", 32, nil, 0x4),
  need_reply = ProtoField.bool("vhost_user.need_reply", "Need reply", 32, nil, 0x8),
  size = ProtoField.uint32("vhost_user.size", "Payload bytes"),
  features = ProtoField.uint64("vhost_user.features", "Features", base.HEX),
  protocol_features = ProtoField.uint64("vhost_user.protocol_features", "Protocol features", base.HEX),
  bit = ProtoField.string("vhost_user.bit", "Bit"),
  value = ProtoField.uint64("vhost_user.value", "Value", base.HEX),
  data = ProtoField.bytes("vhost_user.data", "Data"),
}

-- One filter field for each field of each structure: vhost_user.iotlb.iova, vhost_user.vring_addr.desc.
local structures = {}
for kind, layout in pairs(LAYOUTS) do
  structures[kind] = {}
  for index, field in ipairs(layout.fields) do
    local abbreviation = "vhost_user." .. layout.name .. "." .. field.name
    local made
    if field.width == 8 then
      made = ProtoField.uint64(abbreviation, field.label, base.HEX)
    elseif field.width == 4 then
      made = ProtoField.uint32(abbreviation, field.label)
    elseif field.width == 2 then
      made = ProtoField.uint16(abbreviation, field.label)
    elseif field.width == 1 then
      made = ProtoField.uint8(abbreviation, field.label, base.DEC, field.values)
    else
      made = ProtoField.bytes(abbreviation, field.label)
    end
    structures[kind][index] = made
    fields[kind .. "/" .. field.name] = made
  end
end
proto.fields = fields

local malformed = ProtoExpert.new("vhost_user.malformed", "Payload of another size", expert.group.MALFORMED, expert.severity.ERROR)
local unknown = ProtoExpert.new("vhost_user.unknown", "Request that nobody assigned", expert.group.UNDECODED, expert.severity.NOTE)
proto.experts = { malformed, unknown }

-- ---- words ----

local function is_set(half, bit)
  return math.floor(half / 2 ^ bit) % 2 == 1
end

-- The names of a word's bits, lowest first; what has none keeps its number.
local function bit_names(buffer, names, more)
  local low, high = buffer(0, 4):le_uint(), buffer(4, 4):le_uint()
  local found = {}
  for bit = 0, 63 do
    local half = bit < 32 and low or high
    if is_set(half, bit % 32) then
      found[#found + 1] = { bit = bit, name = names[bit] or (more and more[bit]) or ("bit" .. bit) }
    end
  end
  return found
end

local function hexadecimal(buffer)
  local digits = tostring(buffer:le_uint64():tohex()):gsub("^0+", "")
  return "0x" .. (digits == "" and "0" or digits)
end

local function add_word(tree, field, buffer, names, more)
  local word = tree:add_le(field, buffer)
  local list = {}
  for _, each in ipairs(bit_names(buffer, names, more)) do
    word:add(fields.bit, buffer, each.name):set_text(string.format("Bit %d: %s", each.bit, each.name))
    list[#list + 1] = each.name
  end
  return string.format("%s [%s]", hexadecimal(buffer), table.concat(list, " "))
end

-- ---- payloads: each returns what it says on one line, or nil if the bytes are another structure's ----

local function add_structure(tree, kind, buffer, offset)
  local layout = LAYOUTS[kind]
  local words = {}
  for index, field in ipairs(layout.fields) do
    local part = buffer(offset + field.offset, field.width)
    tree:add_le(structures[kind][index], part)
    local shown
    if field.width == 8 then
      shown = hexadecimal(part)
    elseif field.width <= 4 then
      local number = part:le_uint()
      shown = field.values and field.values[number] or tostring(number)
    else
      shown = tostring(part:bytes())
    end
    words[#words + 1] = field.name .. "=" .. shown
  end
  return table.concat(words, " ")
end

local function add_fixed(kind)
  return function(tree, buffer)
    if buffer:len() ~= LAYOUTS[kind].bytes then
      return nil
    end
    return add_structure(tree, kind, buffer, 0)
  end
end

local payloads = {}
for kind in pairs(LAYOUTS) do
  payloads[kind] = add_fixed(kind)
end

function payloads.none(_, buffer)
  return buffer:len() == 0 and "" or nil
end

function payloads.u64(tree, payload, meaning)
  if payload:len() ~= 8 then
    return nil
  end
  local buffer = payload()
  if meaning == "features" then
    return add_word(tree, fields.features, buffer, FEATURES, proto.prefs.device == 1 and VSOCK_FEATURES or nil)
  elseif meaning == "protocolFeatures" then
    return add_word(tree, fields.protocol_features, buffer, PROTOCOL_FEATURES)
  end
  tree:add_le(fields.value, buffer)
  if meaning == "status" then
    local list = {}
    for _, each in ipairs(bit_names(buffer, STATUS)) do
      list[#list + 1] = each.name
    end
    return string.format("%s [%s]", hexadecimal(buffer), table.concat(list, " "))
  elseif meaning == "result" then
    return buffer:le_uint64() == UInt64(0) and "ok" or "failed (" .. tostring(buffer:le_uint64()) .. ")"
  elseif meaning == "count" then
    return tostring(buffer:le_uint64())
  end
  return hexadecimal(buffer)
end

-- "Bits (0-7) of the payload contain the vring index. Bit 8 is the invalid FD flag." (vhost-user, SET_VRING_KICK)
function payloads.vringFd(tree, payload)
  if payload:len() ~= 8 then
    return nil
  end
  local buffer = payload()
  tree:add_le(fields.value, buffer)
  local low = buffer(0, 4):le_uint()
  return "index=" .. low % 256 .. (is_set(low, 8) and " no-fd" or "")
end

local function add_regions(tree, buffer, offset, count, width)
  local words = {}
  for index = 0, count - 1 do
    local part = tree:add(buffer(offset + index * width, width), "Region " .. index)
    words[#words + 1] = add_structure(part, "region", buffer, offset + index * width)
  end
  return table.concat(words, "; ")
end

-- With XEN_MMAP each region has two more fields; the size tells it.
local function region_width(bytes, count)
  if bytes == count * LAYOUTS.region.bytes then
    return LAYOUTS.region.bytes
  elseif bytes == count * (LAYOUTS.region.bytes + 8) then
    return LAYOUTS.region.bytes + 8
  end
  return nil
end

function payloads.memTable(tree, buffer)
  if buffer:len() < 8 then
    return nil
  end
  local count = buffer(0, 4):le_uint()
  local width = region_width(buffer:len() - 8, count)
  if width == nil then
    return nil
  end
  return "regions=" .. count .. "; " .. add_regions(tree, buffer, 8, count, width)
end

function payloads.memRegion(tree, buffer)
  local width = buffer:len() >= 8 and region_width(buffer:len() - 8, 1)
  return width and add_regions(tree, buffer, 8, 1, width) or nil
end

function payloads.config(tree, buffer)
  if buffer:len() < LAYOUTS.configHead.bytes then
    return nil
  end
  local words = add_structure(tree, "configHead", buffer, 0)
  if buffer:len() > LAYOUTS.configHead.bytes then
    local data = buffer(LAYOUTS.configHead.bytes)
    tree:add(fields.data, data)
    words = words .. " data=" .. tostring(data:bytes())
  end
  return words
end

function payloads.inflight(tree, buffer)
  -- 20 bytes as the document has it, 24 as compilers pad it.
  if buffer:len() ~= LAYOUTS.inflight.bytes and buffer:len() ~= LAYOUTS.inflight.bytes + 4 then
    return nil
  end
  return add_structure(tree, "inflight", buffer, 0)
end

function payloads.shmemConfig(tree, buffer)
  if buffer:len() > 0 then
    tree:add(fields.data, buffer())
  end
  return buffer:len() .. " bytes"
end
payloads.opaque = payloads.shmemConfig

-- ---- messages ----

local function add_payload(tree, buffer, kinds, meaning)
  for _, kind in ipairs(kinds) do
    local words = payloads[kind](tree, buffer, meaning)
    if words ~= nil then
      return words
    end
  end
  tree:add_proto_expert_info(malformed)
  payloads.opaque(tree, buffer)
  return string.format("%d bytes (malformed)", buffer:len())
end

local function message_words(tree, buffer, channel)
  if buffer:len() < HEADER_BYTES then
    tree:add_proto_expert_info(malformed, "Too short for a header")
    return "no header"
  end
  local request = buffer(0, 4):le_uint()
  local flags = buffer(4, 4):le_uint()
  local is_reply = is_set(flags, IS_REPLY)
  local record = MESSAGES[channel] and MESSAGES[channel][request]
  local name = record and record.name or "request " .. request
  local words = { name }
  tree:add_le(fields.request, buffer(0, 4)):append_text(" (" .. name .. ")")
  tree:add(fields.name, buffer(0, 4), name):set_generated()
  tree:add_le(fields.version, buffer(4, 4))
  tree:add_le(fields.reply, buffer(4, 4))
  tree:add_le(fields.need_reply, buffer(4, 4))
  tree:add_le(fields.size, buffer(8, 4))
  if is_reply then
    words[#words + 1] = "REPLY"
  end
  if is_set(flags, NEEDS_REPLY) then
    words[#words + 1] = "NEED_REPLY"
  end
  local payload = buffer(HEADER_BYTES):tvb()
  if record == nil then
    tree:add_proto_expert_info(unknown)
    if payload:len() > 0 then
      tree:add(fields.data, payload())
    end
    words[#words + 1] = payload:len() .. " bytes"
  elseif is_reply then
    words[#words + 1] = add_payload(tree, payload, record.reply, record.answer)
  else
    words[#words + 1] = add_payload(tree, payload, record.request, record.ask)
  end
  local shown = {}
  for _, word in ipairs(words) do
    if word ~= "" then
      shown[#shown + 1] = word
    end
  end
  return table.concat(shown, " ")
end

function proto.dissector(buffer, pinfo, root)
  if buffer:len() < LINK_BYTES or buffer(0, 4):string() ~= "vhuf" or buffer(4, 1):uint() ~= 1 then
    return 0
  end
  local header_bytes = buffer(6, 2):le_uint()
  if header_bytes < LINK_BYTES or header_bytes > buffer:len() then
    return 0
  end
  local kind, channel, direction = buffer(5, 1):uint(), buffer(12, 1):uint(), buffer(13, 1):uint()
  pinfo.cols.protocol = "vhost-user"
  local tree = root:add(proto, buffer())
  tree:add_le(fields.session, buffer(8, 4))
  tree:add(fields.kind, buffer(5, 1))
  if kind == 0 then
    pinfo.cols.src = direction == 0 and "front-end" or "back-end"
    pinfo.cols.dst = direction == 0 and "back-end" or "front-end"
    tree:add(fields.channel, buffer(12, 1))
    tree:add(fields.direction, buffer(13, 1))
    tree:add_le(fields.fds, buffer(16, 2))
    local fds = buffer(16, 2):le_uint()
    if is_set(buffer(14, 1):uint(), KINDS_FOLLOW) then
      for index = 0, math.min(fds, header_bytes - LINK_BYTES) - 1 do
        tree:add(fields.fd_kind, buffer(LINK_BYTES + index, 1))
      end
    end
    local words = "no message"
    if buffer:len() > header_bytes then
      words = message_words(tree, buffer(header_bytes):tvb(), channel)
    end
    pinfo.cols.info = words .. (fds > 0 and " fds=" .. fds or "")
    return buffer:len()
  end
  local words = "Session " .. buffer(8, 4):le_uint() .. ": " .. (KINDS[kind] or "kind " .. kind)
  if kind == 2 then
    tree:add(fields.ender, buffer(15, 1))
  end
  if buffer:len() > header_bytes then
    local text = buffer(header_bytes)
    tree:add(fields.text, text)
    words = words .. ": " .. text:string()
  end
  pinfo.cols.info = words
  return buffer:len()
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, proto)
