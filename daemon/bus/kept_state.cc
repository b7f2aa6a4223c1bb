#include "daemon/bus/kept_state.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>

#include <nlohmann/json.hpp>

#include "daemon/bus/kept_audit.h"

namespace sluice::bus {
namespace {

using nlohmann::json;

// Kinds of entries. Never reuse a number.
constexpr std::uint32_t kBusEntry = 1;
constexpr std::uint32_t kPartitionEntry = 2;  // id: handle
constexpr std::uint32_t kSessionEntry = 3;    // id: session
constexpr std::uint32_t kAuditEntry = 4;      // id: handle; see kept_audit.h, the others are JSON

// Tokens and names are any bytes: as arrays of numbers, for JSON's strings are text.
json bytes_of(const std::string& text) { return std::vector<std::uint8_t>(text.begin(), text.end()); }
std::string string_of(const json& bytes) {
  const auto values = bytes.get<std::vector<std::uint8_t>>();
  return {values.begin(), values.end()};
}

json encode(const session::Session& session) {
  json producers = json::array();
  for (const auto& [id, entry] : session.producers())
    producers.push_back(
        {{"id", id.value}, {"topic", entry.topic.value}, {"name", bytes_of(entry.name)}, {"pin", entry.pin}});
  json readers = json::array();
  for (const auto& [id, entry] : session.readers()) {
    json cursors = json::array();
    for (const session::CursorEntry& cursor : entry.cursors)
      cursors.push_back({cursor.partition, cursor.handle, cursor.cell});
    readers.push_back({{"id", id}, {"topic", entry.topic.value}, {"cursors", std::move(cursors)}});
  }
  json transactors = json::array();
  for (const auto& [id, group] : session.transactors())
    transactors.push_back({{"id", id.value}, {"group", bytes_of(group)}});
  const session::Peer& peer = session.peer();
  return {{"token", bytes_of(session.token())},
          {"uid", peer.uid},
          {"gid", peer.gid},
          {"pid", peer.pid},
          {"groups", peer.groups},
          {"client", bytes_of(session.client_name())},
          {"membarrier", session.membarrier()},
          {"revoked", session.revoked()},
          {"producers", std::move(producers)},
          {"readers", std::move(readers)},
          {"transactors", std::move(transactors)}};
}

session::SessionRecord decode_session(SessionId id, const json& in) {
  session::SessionRecord record;
  record.id = id;
  record.token = string_of(in.at("token"));
  record.peer.uid = in.at("uid").get<uid_t>();
  record.peer.gid = in.at("gid").get<gid_t>();
  record.peer.pid = in.at("pid").get<pid_t>();
  record.peer.groups = in.at("groups").get<std::vector<gid_t>>();
  record.client_name = string_of(in.at("client"));
  record.membarrier = in.at("membarrier").get<bool>();
  record.revoked = in.at("revoked").get<bool>();
  for (const json& producer : in.at("producers"))
    record.producers.push_back({ProducerId(producer.at("id").get<std::uint32_t>()),
                                TopicId(producer.at("topic").get<std::uint32_t>()), string_of(producer.at("name")),
                                producer.at("pin").get<std::uint32_t>()});
  for (const json& reader : in.at("readers")) {
    session::ReaderEntry entry;
    entry.id = reader.at("id").get<std::uint64_t>();
    entry.topic = TopicId(reader.at("topic").get<std::uint32_t>());
    for (const json& cursor : reader.at("cursors"))
      entry.cursors.push_back(
          {cursor.at(0).get<PartitionNumber>(), cursor.at(1).get<std::uint32_t>(), cursor.at(2).get<std::uint32_t>()});
    record.readers.push_back(std::move(entry));
  }
  for (const json& transactor : in.value("transactors", json::array()))
    record.transactors[ProducerId(transactor.at("id").get<std::uint32_t>())] = string_of(transactor.at("group"));
  return record;
}

// Throws what nlohmann::json does.
void take_entry(const keep::TableKey& key, const std::string& text, KeptState& state) {
  const json value = json::parse(text);
  switch (key.kind) {
    case kBusEntry:
      state.incarnation = Incarnation(value.at("incarnation").get<std::uint64_t>());
      state.daemons = value.at("daemons").get<std::uint64_t>();
      state.first_producer = ProducerId(value.at("first_producer").get<std::uint32_t>());
      break;
    case kPartitionEntry:
      state.partitions.push_back({TopicId(value.at("topic").get<std::uint32_t>()),
                                  value.at("partition").get<PartitionNumber>(),
                                  static_cast<std::uint32_t>(key.id),
                                  {}});
      break;
    case kSessionEntry:
      state.sessions.push_back(decode_session(SessionId(key.id), value));
      state.has_transactors &= value.contains("transactors");
      break;
    default: break;  // of a newer daemon
  }
}

}  // namespace

const KeptPartition* KeptState::find(TopicId topic, PartitionNumber number) const {
  const auto found = std::find_if(partitions.begin(), partitions.end(), [&](const KeptPartition& kept) {
    return kept.topic == topic && kept.number == number;
  });
  return found == partitions.end() ? nullptr : &*found;
}

// Short, for there is a limit to all names together (keep::kHeldNameMax).
std::string session_fd_name(SessionId session) {
  std::array<char, 1 + 2 * sizeof session.value> name{'s'};
  const auto end = std::to_chars(name.data() + 1, name.data() + name.size(), session.value, 16).ptr;
  return {name.data(), end};
}

std::array<std::string, 3> region_fd_names(std::uint32_t handle) {
  const std::string number = std::to_string(handle);
  return {"c" + number, "l" + number, "b" + number};
}

Result<KeptState> read_state(const keep::KeptTable& table) {
  KeptState state;
  std::map<std::uint32_t, spill::Checkpoint> audits;
  for (const auto& [key, value] : table.entries()) {
    if (key.kind == kAuditEntry) {
      SLUICE_ASSIGN(audits[static_cast<std::uint32_t>(key.id)], decode_checkpoint(value));
      continue;
    }
    try {
      take_entry(key, value, state);
    } catch (const json::exception& error) {
      return fail(ErrorCode::corrupt, "reading what the daemon before left: entry " + std::to_string(key.kind) + "/" +
                                          std::to_string(key.id) + ": " + error.what());
    }
  }
  if (state.incarnation.value == 0) return fail(ErrorCode::corrupt, "the daemon before left no incarnation");
  for (KeptPartition& partition : state.partitions)
    if (const auto audit = audits.find(partition.handle); audit != audits.end()) partition.audit = audit->second;
  return state;
}

Status note_bus(keep::KeptTable& table, const KeptState& state) {
  return table.put({kBusEntry, 0}, json{{"incarnation", state.incarnation.value},
                                        {"daemons", state.daemons},
                                        {"first_producer", state.first_producer.value}}
                                       .dump());
}

Status note_session(keep::KeptTable& table, const session::Session& session) {
  return table.put({kSessionEntry, session.id().value}, encode(session).dump());
}

void forget_session(keep::KeptTable& table, SessionId session) { table.erase({kSessionEntry, session.value}); }

Status note_partition(keep::KeptTable& table, const KeptPartition& partition) {
  return table.put({kPartitionEntry, partition.handle},
                   json{{"topic", partition.topic.value}, {"partition", partition.number}}.dump());
}

bool is_noted(const keep::KeptTable& table, std::uint32_t handle) {
  return table.entries().count({kPartitionEntry, handle}) != 0;
}

Status note_audit(keep::KeptTable& table, std::uint32_t handle, const spill::Checkpoint& checkpoint) {
  return table.put({kAuditEntry, handle}, encode_checkpoint(checkpoint));
}

void forget_partition(keep::KeptTable& table, std::uint32_t handle) {
  table.erase({kPartitionEntry, handle});
  table.erase({kAuditEntry, handle});
}

}  // namespace sluice::bus
