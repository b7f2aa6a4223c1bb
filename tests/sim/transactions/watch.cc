// World: what is to be seen in memory, on disk, and by an operator.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "shm/base/clock.h"
#include "shm/layout/trailer.h"
#include "shm/ring/scanner.h"
#include "tests/sim/transactions/world.h"

namespace sluice::transactions::sim {
namespace {

Met met_of(const ring::RecordView& record) {
  Met met{record.position, record.fields.claim.kind() == layout::RecordKind::half, {}};
  if (record.fields.claim.kind() == layout::RecordKind::ref)
    met.reference =
        Position(layout::as_u64(layout::find_entry(record.trailer, layout::TrailerType::reference)).value_or(0));
  return met;
}

region::Mapping map(const UniqueFd& fd, region::Access access) {
  return region::Mapping::map(fd.get(), access, "a watched region").value();
}

}  // namespace

// ---- memory

ring::PartitionMemory World::Watch::memory(int wake_fd) const {
  return ring::PartitionMemory::view(control.at<layout::ControlRegion>(), log.at<layout::LogRegionHeader>(),
                                     bell.at<layout::BellRegion>(), wake_fd);
}

void World::open_watches() {
  for (const auto& [id, config] : configs_) {
    auto grants = host_.bus().open_partitions(operator_, config.name, session::Access::produce, 0, config.partitions);
    check(grants.has_value(), grants ? "" : "opening partitions fails: " + grants.error().message());
    for (const session::PartitionGrant& granted : *grants) {
      auto watch = std::make_unique<Watch>();
      watch->place = {id, granted.partition};
      watch->control = map(granted.control, region::Access::read_only);
      watch->log = map(granted.log, region::Access::read_write);
      watch->bell = map(granted.bell, region::Access::read_write);
      watch->cursor = Position(watch->control.at<layout::ControlRegion>()->start_position);
      watches_.push_back(std::move(watch));
    }
  }
}

ring::PartitionMemory World::memory_of(const core::Place& place) const {
  for (const auto& one : watches_)
    if (one->place == place) return one->memory(host_.wake_fd());
  throw Broken("a partition that nobody has opened");
}

void World::watch() {
  for (const auto& one : watches_) watch(*one);
}

// Between two steps nothing moves, so nothing needs a pin. What has left memory before it was met is met on disk.
void World::watch(Watch& watch) {
  const ring::PartitionMemory memory = watch.memory(host_.wake_fd());
  for (;;) {
    const SegmentNumber segment = memory.segment_of(watch.cursor);
    const layout::SlotEntry entry{memory.table_entry(segment).load(std::memory_order_acquire)};
    const ring::Presence presence = ring::presence_of(memory, entry, segment);
    if (presence == ring::Presence::not_yet) return;
    if (presence == ring::Presence::here) {
      const ring::SegmentView view = ring::view_of(memory, segment, entry.slot(), true);
      ring::RecordView record;
      ring::ScanResult result{};
      while ((result = ring::scan_record(view, watch.cursor, record)) <= ring::ScanResult::pad)
        if (result == ring::ScanResult::record) truth_.on_met(watch.place, met_of(record));
      if (result != ring::ScanResult::segment_end) return;
    }
    watch.cursor = memory.start_of(segment.next());
  }
}

// ---- files

void World::look_at_files() {
  for (const auto& [id, config] : configs_) {
    for (PartitionNumber number = 0; number < config.partitions; ++number) {
      const core::Place place{id, number};
      const std::vector<Met> all = files_of(place, config);
      truth_.on_recovered(place, all);
      if (config.name == kInputTopic) acks_.on_recovered(place, all);
    }
  }
}

// Each segment up to the first that is no record.
std::vector<Met> World::files_of(const core::Place& place, const core::TopicConfig& config) {
  std::vector<Met> all;
  const std::string directory = host_.partition_path(config.name, place.partition);
  const auto names = host_.media().list(directory);
  if (!names) return all;
  for (const std::string& name : *names) {
    if (!name.ends_with(".log")) continue;
    std::vector<std::byte> bytes = host_.media().current_bytes(directory + "/" + name).value();
    bytes.resize((bytes.size() + config.segment_size - 1) / config.segment_size * config.segment_size);
    const std::uint64_t base = std::stoull(name);
    for (std::uint64_t offset = 0; offset < bytes.size(); offset += config.segment_size) {
      layout::SegmentHeader header;
      if (layout::read_segment_header(bytes.data() + offset, header) != layout::SegmentCheck::ok) continue;
      ring::SegmentView view;
      view.base = bytes.data() + offset;
      view.start = Position(base + offset);
      view.limit = view.end = view.start + config.segment_size;
      view.checksum = header.checksum;
      view.verify = true;
      Position at = view.start;
      ring::RecordView record;
      for (ring::ScanResult result{}; (result = ring::scan_record(view, at, record)) <= ring::ScanResult::pad;)
        if (result == ring::ScanResult::record) all.push_back(met_of(record));
    }
  }
  return all;
}

// ---- what the daemon says

void World::look() {
  if (!host_.runs()) return;
  acks_.check_stored();
  session::TransactionInterface& transactions = host_.bus().transactions();
  truth_.check_listed([&](TransactionId id) -> std::optional<session::TransactionInfo> {
    auto info = transactions.describe_transaction(operator_, id);
    if (info) return std::move(*info);
    return std::nullopt;
  });
  const auto parked = transactions.list_transactions(operator_, {}, kTransactionsPerCallMax, true);
  check(parked.has_value(), "parked transactions cannot be listed");
  for (const session::TransactionInfo& info : *parked) {
    reached.parked += !truth_.of(info.transaction).was_parked;
    truth_.check_parked(info, monotonic_ns());
  }
}

}  // namespace sluice::transactions::sim
