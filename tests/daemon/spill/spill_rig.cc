#include "tests/daemon/spill/spill_rig.h"

#include <array>
#include <cstring>
#include <utility>

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "shm/layout/trailer.h"
#include "shm/ring/kept_slots.h"

namespace sluice::spill::test {
namespace {

constexpr std::uint32_t kPins = 32;
constexpr std::uint32_t kTurnsMax = 10'000;
constexpr TopicId kTopic{7};

std::string text_of(std::span<const std::byte> from) {
  return {reinterpret_cast<const char*>(from.data()), from.size()};
}

}  // namespace

log::LogOptions SpillRig::log_options() const {
  log::LogOptions log;
  log.directory = "/data/t/0";
  log.name = "t/0";
  log.topic = kTopic;
  log.segment_size = options_.topic.segment_size;
  log.segments_per_file = options_.segments_per_file;
  return log;
}

SpillRig::SpillRig(RigOptions options)
    : pins(MemoryKind::heap, kPins),
      options_(std::move(options)),
      media_(std::make_shared<io::SimMedia>(1)),
      regions_(options_.topic, 1, Position(0)) {
  disk =
      std::make_unique<CountingDisk>(io::SimDisk::Options{1, options_.queue_depth, options_.delay_reaps_max}, media_);
  backing.limit = options_.backing_limit;
  std::unique_ptr<log::PartitionLog> log;
  if (options_.topic.durability != core::Durability::volatile_) {
    log::RecoveryReport report;
    auto opened = log::PartitionLog::open(*disk, log_options(), Position(0), {}, report);
    if (!opened) ADD_FAILURE() << opened.error().message();
    log = std::move(*opened);
  }
  partition_ = std::make_unique<Partition>(
      regions_.memory(), options_.topic, PartitionIdentity{"t/0", kTopic, 0, Incarnation(1)},
      Environment{disk.get(), &pins, &backing, &attached, nullptr, nullptr, [this] { return wall_ns(); }},
      std::move(log), core::PartitionAudit(), PartitionOptions{options_.flush_interval_ns});
}

SpillRig::~SpillRig() { end(); }

// As kill -9: requests end badly, and the partition goes. Who was killed logs nothing.
void SpillRig::end() {
  if (!partition_) return;
  const spdlog::level::level_enum level = spdlog::get_level();
  spdlog::set_level(spdlog::level::off);
  disk->die();
  reap();
  producers_.clear();
  partition_.reset();
  spdlog::set_level(level);
}

void SpillRig::kill_and_adopt_poisoned() {
  end();
  disk =
      std::make_unique<CountingDisk>(io::SimDisk::Options{1, options_.queue_depth, options_.delay_reaps_max}, media_);
  log::LogOptions options = log_options();
  options.memory_kept = true;
  log::RecoveryReport report;
  auto log = log::PartitionLog::open(*disk, options, Position(0), {}, report).value();
  KeptMemory kept;
  kept.resume = report.end;
  kept.slots = ring::read_kept_slots(regions_.memory(), kTopic, 0, Incarnation(1), kept.resume).value();
  kept.poison = "it was poisoned before";
  partition_ = std::make_unique<Partition>(regions_.memory(), options_.topic,
                                           PartitionIdentity{"t/0", kTopic, 0, Incarnation(1)},
                                           Environment{disk.get(), &pins, &backing, &attached}, std::move(log),
                                           core::PartitionAudit(), PartitionOptions{options_.flush_interval_ns}, kept);
}

layout::RecordHeader* SpillRig::header_at(Position position) {
  const ring::PartitionMemory memory = regions_.memory();
  const layout::SlotEntry entry{memory.table_entry(memory.segment_of(position)).load()};
  return reinterpret_cast<layout::RecordHeader*>(memory.slot_base(entry.slot()) +
                                                 (position.value & (memory.segment_size() - 1)));
}

ring::Appender& SpillRig::producer(std::uint32_t id) {
  auto& appender = producers_[id];
  if (!appender) {
    attached.alive.insert(id);
    appender =
        std::make_unique<ring::Appender>(regions_.memory(), ProducerId(id), pins.cell(id % kPins), false, Sequence(1));
  }
  return *appender;
}

ring::Appended SpillRig::send(std::uint32_t id, const std::string& text, const std::string& bookmark) {
  layout::TrailerBuilder trailer;
  if (!bookmark.empty() && !trailer.bookmark(bookmark)) ADD_FAILURE() << "a bookmark does not fit";
  ring::Appended appended;
  EXPECT_EQ(producer(id).append({bytes(text), trailer.finish(), now_ns}, appended), ring::AppendResult::ok);
  return appended;
}

ring::Appended SpillRig::send_delayed(std::uint32_t id, const std::string& text, std::uint64_t due_ns) {
  layout::TrailerBuilder trailer;
  trailer.due(due_ns);
  ring::Appended appended;
  EXPECT_EQ(producer(id).append({bytes(text), trailer.finish(), now_ns}, appended, layout::RecordKind::delayed),
            ring::AppendResult::ok);
  return appended;
}

ring::Appended SpillRig::send_ref(std::uint32_t id, Position reference) {
  std::atomic<std::uint64_t> pin{0};
  ring::Appender appender(regions_.memory(), ProducerId(id), pin, true, Sequence(1));
  layout::TrailerBuilder trailer;
  trailer.reference(reference);
  ring::Appended appended;
  EXPECT_EQ(appender.append({{}, trailer.finish(), now_ns}, appended, layout::RecordKind::ref), ring::AppendResult::ok);
  return appended;
}

std::vector<Position> SpillRig::refs() {
  const ring::PartitionMemory memory = regions_.memory();
  std::vector<Position> found;
  for (SegmentNumber segment = memory.segment_of(partition_->memory_start());; segment = segment.next()) {
    std::uint32_t slot = 0;
    if (ring::pin_segment(memory, pins.cell(0), segment, slot) != ring::Presence::here) return found;
    const ring::SegmentView view = ring::view_of(memory, segment, slot, true);
    Position at = view.start;
    ring::RecordView record;
    for (;;) {
      const ring::ScanResult result = ring::scan_record(view, at, record);
      if (result > ring::ScanResult::corrupt_record) break;
      if (result != ring::ScanResult::record || record.fields.claim.kind() != layout::RecordKind::ref) continue;
      const auto entry = layout::find_entry(record.trailer, layout::TrailerType::reference);
      found.emplace_back(layout::as_u64(entry).value_or(0));
    }
    pins.cell(0).store(0);
  }
}

std::uint32_t SpillRig::fill(std::uint32_t id, std::size_t size) {
  const std::string text(size, 'x');
  std::uint32_t count = 0;
  ring::Appended appended;
  while (producer(id).append({bytes(text), {}, now_ns}, appended) == ring::AppendResult::ok) ++count;
  return count;
}

ring::OpenClaim SpillRig::claim(std::uint32_t id, std::uint32_t size) {
  ring::OpenClaim open;
  EXPECT_EQ(producer(id).claim(size, 0, layout::RecordKind::data, open), ring::AppendResult::ok);
  return open;
}

void SpillRig::reap() {
  std::array<io::Completion, 16> completions;
  while (const std::size_t count = disk->reap(completions))
    for (std::size_t i = 0; i < count; ++i) partition_->on_completion(completions[i], now_ns);
}

void SpillRig::settle(bool flush) {
  for (std::uint32_t turn = 0; turn < kTurnsMax; ++turn) {
    if (flush) partition_->flush_now();
    const WorkResult worked = work();
    if (!worked.progressed) {
      EXPECT_TRUE(worked.deadline_ns == 0 || worked.deadline_ns > now_ns) << "asks for a turn, and does nothing";
      if (partition_->is_idle()) return;
    }
    reap();
  }
  FAIL() << "the partition never settles";
}

core::AuditCounts SpillRig::audit(std::uint32_t id) {
  for (const core::AuditRow& row : partition_->audit().rows())
    if (row.producer == ProducerId(id)) return row.counts;
  return {};
}

SpillRig::Recovered SpillRig::lose_power_and_recover() {
  end();
  media_->power_loss();
  disk = std::make_unique<CountingDisk>(io::SimDisk::Options{2, 64, 0}, media_);
  Recovered recovered;
  auto log = log::PartitionLog::open(
      *disk, log_options(), Position(0),
      [&](Position position, const layout::RecordFields& fields, std::span<const std::byte>) {
        if (fields.claim.kind() == layout::RecordKind::pad) return;
        const bool aborted = fields.claim.state() == layout::RecordState::aborted;
        recovered.seen.push_back({aborted ? ring::ScanResult::aborted : ring::ScanResult::record,
                                  position,
                                  fields.claim.producer().value,
                                  fields.sequence.value,
                                  {},
                                  {},
                                  fields});
      },
      recovered.report);
  EXPECT_TRUE(log.has_value());
  if (!log) return recovered;
  for (const Seen& seen : recovered.seen) {
    if (seen.result != ring::ScanResult::record || seen.fields.claim.kind() == layout::RecordKind::fence) continue;
    std::vector<std::byte> payload(seen.fields.payload_size);
    EXPECT_EQ((*log)->read(seen.position + layout::kRecordHeaderSize, payload).value_or(0), payload.size());
    recovered.payloads.push_back(text_of(payload));
  }
  return recovered;
}

}  // namespace sluice::spill::test
