#include "daemon/bus/bus_logs.h"

#include <algorithm>
#include <span>

#include "daemon/bus/bus.h"
#include "daemon/bus/log_walker.h"
#include "shm/base/clock.h"
#include "shm/base/key_hash.h"
#include "shm/layout/trailer.h"

namespace sluice::bus {
namespace {

constexpr std::uint64_t kWalkBytesMax = 1024 * 1024;  // of one call, in log files

delivery::LogRecord describe(const ring::RecordView& record, std::string_view tag) {
  delivery::LogRecord out;
  out.position = record.position;
  out.end = record.position + record.fields.claim.span_size();
  out.time_ns = record.fields.time_ns;
  const auto key = layout::find_entry(record.trailer, layout::TrailerType::key);
  if (key.data() != nullptr) out.key_hash = key_hash(layout::as_text(key));
  if (!tag.empty())
    out.tag_matches = layout::as_text(layout::find_entry(record.trailer, layout::TrailerType::tag)) == tag;
  return out;
}

delivery::LogMessage copy(const ring::RecordView& record, std::string_view tag) {
  delivery::LogMessage message;
  message.record = describe(record, tag);
  message.origin = record.position;
  message.producer = record.fields.claim.producer();
  message.sequence = record.fields.sequence;
  message.payload.assign(reinterpret_cast<const char*>(record.payload.data()), record.payload.size());
  message.trailer.assign(reinterpret_cast<const char*>(record.trailer.data()), record.trailer.size());
  return message;
}

delivery::TopicView view_of(const Topic& topic) {
  return {topic.id(), topic.name(), static_cast<std::uint32_t>(topic.partitions().size()), topic.is_volatile()};
}

}  // namespace

std::vector<delivery::TopicView> BusLogs::topics() const {
  std::vector<delivery::TopicView> views;
  views.reserve(bus_.topics_.size());
  for (const auto& [name, topic] : bus_.topics_) views.push_back(view_of(*topic));
  return views;
}

std::optional<delivery::TopicView> BusLogs::find(TopicId topic) const {
  const auto found = bus_.by_id_.find(topic);
  return found == bus_.by_id_.end() ? std::nullopt : std::optional(view_of(*found->second));
}

Status BusLogs::may_consume(const session::Peer& peer, TopicId id) const {
  SLUICE_ASSIGN(Topic * topic, bus_.find_topic(id));
  return topic->consumers().check(peer, bus_.settings_.policy, "consuming from", topic->name());
}

Result<spill::Partition*> BusLogs::partition(TopicId topic, PartitionNumber number) const {
  SLUICE_ASSIGN(PartitionUnit * unit, bus_.find_partition(topic, number));
  return unit->partition.get();
}

Position BusLogs::end_of(const spill::Partition& partition) const {
  return partition.is_visible_durable() ? std::min(partition.durable(), partition.frontier()) : partition.frontier();
}

Result<Position> BusLogs::earliest(TopicId topic, PartitionNumber number) const {
  SLUICE_ASSIGN(spill::Partition * partition, this->partition(topic, number));
  return partition->earliest();
}

Result<Position> BusLogs::end(TopicId topic, PartitionNumber number) const {
  SLUICE_ASSIGN(spill::Partition * partition, this->partition(topic, number));
  return end_of(*partition);
}

void BusLogs::catch_up(TopicId topic, PartitionNumber number) {
  if (const auto partition = this->partition(topic, number)) (*partition)->catch_up(monotonic_ns());
}

Result<Position> BusLogs::durable(TopicId topic, PartitionNumber number) const {
  SLUICE_ASSIGN(spill::Partition * partition, this->partition(topic, number));
  return partition->is_volatile() ? partition->frontier() : partition->durable();
}

Result<Position> BusLogs::snap(TopicId topic, PartitionNumber number, Position position) {
  SLUICE_ASSIGN(spill::Partition * partition, this->partition(topic, number));
  const ring::PartitionMemory& memory = partition->memory();
  LogWalker walker(*partition, memory.start_of(memory.segment_of(position)), end_of(*partition), realtime_coarse_ns());
  ring::RecordView record;
  for (;;) {
    SLUICE_ASSIGN(const bool found, walker.next(record));
    if (!found) return end_of(*partition);
    if (record.position >= position) return record.position;
  }
}

Result<Position> BusLogs::at_time(TopicId topic, PartitionNumber number, std::uint64_t time_ns) {
  SLUICE_ASSIGN(spill::Partition * partition, this->partition(topic, number));
  const Position begin =
      partition->log() == nullptr ? partition->memory_start() : partition->log()->segment_at_time(time_ns);
  LogWalker walker(*partition, begin, end_of(*partition), realtime_coarse_ns());
  ring::RecordView record;
  for (;;) {
    SLUICE_ASSIGN(const bool found, walker.next(record));
    if (!found) return end_of(*partition);
    if (record.fields.time_ns >= time_ns) return record.position;
  }
}

Result<delivery::LogWalk> BusLogs::walk(TopicId topic, PartitionNumber number, Position from, std::uint32_t count,
                                        std::string_view tag) {
  SLUICE_ASSIGN(spill::Partition * partition, this->partition(topic, number));
  const Position begin = std::max(from, partition->earliest());
  LogWalker walker(*partition, begin, end_of(*partition), realtime_coarse_ns());
  delivery::LogWalk walk;
  walk.next = begin;
  ring::RecordView record;
  while (walk.records.size() < count && walk.next - begin < kWalkBytesMax) {
    SLUICE_ASSIGN(const bool found, walker.next(record));
    walk.next = walker.position();
    if (!found) {
      walk.at_end = true;
      break;
    }
    delivery::LogRecord described = describe(record, tag);
    if (record.fields.claim.kind() == layout::RecordKind::ref) {
      SLUICE_ASSIGN(const std::optional<delivery::LogMessage> meant, follow(*partition, record, tag));
      if (!meant) continue;  // gone, or damaged: readers count it
      described.key_hash = meant->record.key_hash;
      described.tag_matches = meant->record.tag_matches;
    }
    if (described.tag_matches) walk.records.push_back(described);
  }
  return walk;
}

// The message that a ref stands for, with the ref's place.
Result<std::optional<delivery::LogMessage>> BusLogs::follow(spill::Partition& partition, const ring::RecordView& ref,
                                                            std::string_view tag) const {
  const auto reference = layout::as_u64(layout::find_entry(ref.trailer, layout::TrailerType::reference));
  std::optional<delivery::LogMessage> message;
  if (!reference || *reference >= ref.position.value || *reference % layout::kRecordAlignment != 0) return message;
  LogWalker walker(partition, Position(*reference), ref.position, realtime_coarse_ns());
  ring::RecordView meant;
  SLUICE_ASSIGN(const bool found, walker.raw(meant));
  if (!found || meant.position.value != *reference || !layout::waits_for_ref(meant.fields.claim.kind())) return message;
  message = copy(meant, tag);
  message->record.position = ref.position;
  message->record.end = ref.position + ref.fields.claim.span_size();
  return message;
}

Result<delivery::LogMessage> BusLogs::read(TopicId topic, PartitionNumber number, Position position) {
  SLUICE_ASSIGN(spill::Partition * partition, this->partition(topic, number));
  LogWalker walker(*partition, position, end_of(*partition), 0);  // also one that has expired
  ring::RecordView record;
  SLUICE_ASSIGN(const bool found, walker.next(record));
  if (found && record.position == position) {
    if (record.fields.claim.kind() != layout::RecordKind::ref) return copy(record, {});
    SLUICE_ASSIGN(std::optional<delivery::LogMessage> meant, follow(*partition, record, {}));
    if (meant) return std::move(*meant);
  }
  return fail(ErrorCode::not_found, "reading " + partition->identity().name + "@" + std::to_string(position.value) +
                                        ": no message stands there");
}

Result<Position> BusLogs::lowest_origin(TopicId topic, PartitionNumber number, Position from) {
  SLUICE_ASSIGN(spill::Partition * partition, this->partition(topic, number));
  return partition->lowest_origin(from);
}

Result<std::uint64_t> BusLogs::walk_count(spill::Partition& partition, Position from, Position to) const {
  LogWalker walker(partition, from, to, realtime_coarse_ns());
  ring::RecordView record;
  std::uint64_t count = 0;
  for (;;) {
    SLUICE_ASSIGN(const bool found, walker.next(record));
    if (!found) return count;
    ++count;
  }
}

// Whole segments by their summaries; the first and the last one record by record.
Result<std::uint64_t> BusLogs::count(TopicId topic, PartitionNumber number, Position from, Position to) {
  SLUICE_ASSIGN(spill::Partition * partition, this->partition(topic, number));
  from = std::max(from, partition->earliest());
  if (const std::uint64_t now = realtime_coarse_ns(), ttl = partition->message_ttl_ns();
      ttl != 0 && now > ttl && partition->log() != nullptr)
    from = std::max(from, partition->log()->segment_at_time(now - ttl + 1));  // below it everything has expired
  to = std::min(to, end_of(*partition));
  if (from >= to) return std::uint64_t{0};
  if (partition->is_volatile()) return walk_count(*partition, from, to);  // memory has all there is
  const ring::PartitionMemory& memory = partition->memory();
  const SegmentNumber first = memory.segment_of(from);
  const SegmentNumber last = memory.segment_of(to);
  if (first == last) return walk_count(*partition, from, to);
  SLUICE_ASSIGN(const std::uint64_t head, walk_count(*partition, from, memory.start_of(first.next())));
  SLUICE_ASSIGN(const std::uint64_t tail, walk_count(*partition, memory.start_of(last), to));
  SLUICE_ASSIGN(const std::uint64_t between, partition->records_between(first.next(), last));
  return head + between + tail;
}

std::uint64_t BusLogs::produced(TopicId topic, PartitionNumber number) const {
  const auto partition = this->partition(topic, number);
  return partition ? (*partition)->counters().records : 0;
}

std::optional<std::int32_t> BusLogs::open_claim(TopicId topic, PartitionNumber number) const {
  const auto partition = this->partition(topic, number);
  if (!partition || !(*partition)->has_open_claims()) return std::nullopt;
  const auto producer = bus_.producers_.find((*partition)->halted_at());
  if (producer == bus_.producers_.end()) return std::nullopt;
  const session::Session* session = bus_.sessions_->find(producer->second.session);
  return session == nullptr ? std::nullopt : std::optional<std::int32_t>(session->peer().pid);
}

Result<TopicId> BusLogs::make_dead_letter_topic(const std::string& name) {
  if (const auto found = bus_.topics_.find(name); found != bus_.topics_.end()) return found->second->id();
  core::TopicRequest request;
  request.config.name = name;
  request.config.durability = core::Durability::sync;
  request.config.segment_size = 0;
  request.config.slots = 0;
  request.default_claim_deadline = true;
  return bus_.make_topic(std::move(request));
}

Result<std::pair<Position, Position>> BusLogs::append(TopicId topic, PartitionNumber number, std::string_view payload,
                                                      std::string_view trailer) {
  SLUICE_ASSIGN(spill::Partition * partition, this->partition(topic, number));
  SLUICE_ASSIGN(
      const ring::Appended appended,
      partition->append_own(bus_.own_producer_, std::as_bytes(std::span(payload)), std::as_bytes(std::span(trailer))));
  return std::pair(appended.position, appended.end);
}

}  // namespace sluice::bus
