#include "daemon/bus/kept_state.h"

#include <algorithm>
#include <map>
#include <utility>

#include <nlohmann/json.hpp>

namespace sluice::bus {
namespace {

using nlohmann::json;

// Kinds of entries. Never reuse a number.
constexpr std::uint32_t kBusEntry = 1;
constexpr std::uint32_t kPartitionEntry = 2;  // id: handle
constexpr std::uint32_t kSessionEntry = 3;    // id: session
constexpr std::uint32_t kAuditEntry = 4;      // id: handle

constexpr std::array kCounts = {
    &core::AuditCounts::data,    &core::AuditCounts::committed_halves, &core::AuditCounts::rolled_back,
    &core::AuditCounts::open,    &core::AuditCounts::delayed,          &core::AuditCounts::aborted,
    &core::AuditCounts::fenced,  &core::AuditCounts::dropped,          &core::AuditCounts::expired,
    &core::AuditCounts::cut,     &core::AuditCounts::quarantined,      &core::AuditCounts::gaps,
    &core::AuditCounts::repeats,
};

// Tokens, names and bookmarks are any bytes: as arrays of numbers, for JSON's strings are text.
json bytes_of(const std::string& text) { return std::vector<std::uint8_t>(text.begin(), text.end()); }
std::string string_of(const json& bytes) {
  const auto values = bytes.get<std::vector<std::uint8_t>>();
  return {values.begin(), values.end()};
}

json encode(const core::AuditRow& row) {
  json counts = json::array();
  for (const auto count : kCounts) counts.push_back(row.counts.*count);
  return {{"producer", row.producer.value},
          {"name", bytes_of(row.name)},
          {"first", row.counts.sequence_first.value},
          {"last", row.counts.sequence_last.value},
          {"counts", std::move(counts)}};
}

core::AuditRow decode_row(const json& in) {
  core::AuditRow row;
  row.producer = ProducerId(in.at("producer").get<std::uint32_t>());
  row.name = string_of(in.at("name"));
  row.counts.sequence_first = Sequence(in.at("first").get<std::uint64_t>());
  row.counts.sequence_last = Sequence(in.at("last").get<std::uint64_t>());
  for (std::size_t i = 0; i < kCounts.size(); ++i) row.counts.*kCounts[i] = in.at("counts").at(i).get<std::uint64_t>();
  return row;
}

json encode(const spill::Checkpoint& checkpoint) {
  json rows = json::array();
  for (const core::AuditRow& row : checkpoint.rows) rows.push_back(encode(row));
  json bookmarks = json::array();
  for (const auto& [producer, mark] : checkpoint.bookmarks)
    bookmarks.push_back({producer.value, mark.sequence.value, bytes_of(mark.bookmark)});
  return {{"upto", checkpoint.upto.value}, {"rows", std::move(rows)}, {"bookmarks", std::move(bookmarks)}};
}

spill::Checkpoint decode_checkpoint(const json& in) {
  spill::Checkpoint checkpoint;
  checkpoint.upto = Position(in.at("upto").get<std::uint64_t>());
  for (const json& row : in.at("rows")) checkpoint.rows.push_back(decode_row(row));
  for (const json& mark : in.at("bookmarks"))
    checkpoint.bookmarks.emplace_back(
        ProducerId(mark.at(0).get<std::uint32_t>()),
        spill::ProducerMark{Sequence(mark.at(1).get<std::uint64_t>()), string_of(mark.at(2))});
  return checkpoint;
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
          {"readers", std::move(readers)}};
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
  return record;
}

void take_entry(const keep::TableKey& key, const json& value, KeptState& state,
                std::map<std::uint32_t, spill::Checkpoint>& audits) {
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
    case kSessionEntry: state.sessions.push_back(decode_session(SessionId(key.id), value)); break;
    case kAuditEntry: audits[static_cast<std::uint32_t>(key.id)] = decode_checkpoint(value); break;
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

std::string session_fd_name(SessionId session) { return "session-" + std::to_string(session.value); }

std::array<std::string, 3> region_fd_names(std::uint32_t handle) {
  const std::string number = std::to_string(handle);
  return {"control-" + number, "log-" + number, "bell-" + number};
}

Result<KeptState> read_state(const keep::KeptTable& table) {
  KeptState state;
  std::map<std::uint32_t, spill::Checkpoint> audits;
  for (const auto& [key, value] : table.entries()) {
    try {
      take_entry(key, json::parse(value), state, audits);
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

Status note_audit(keep::KeptTable& table, std::uint32_t handle, const spill::Checkpoint& checkpoint) {
  return table.put({kAuditEntry, handle}, encode(checkpoint).dump());
}

void forget_partition(keep::KeptTable& table, std::uint32_t handle) {
  table.erase({kPartitionEntry, handle});
  table.erase({kAuditEntry, handle});
}

}  // namespace sluice::bus
