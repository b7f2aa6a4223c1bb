#include "tests/sdk/local_bus.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "shm/base/assert.h"
#include "shm/base/clock.h"
#include "shm/layout/trailer.h"
#include "shm/region/memfd.h"
#include "shm/region/region.h"
#include "shm/ring/appender.h"
#include "shm/ring/membarrier.h"
#include "shm/ring/scanner.h"

namespace sluice::test {
namespace {

constexpr TopicId kTopicId = LocalBus::kTopicId;
constexpr std::uint64_t kFileSizeMax = 64 * 1024 * 1024;

class BackedMemory final : public ring::SlotMemory {
 public:
  Status back(std::uint64_t, std::uint64_t) override { return {}; }
  std::uint64_t in_memory(std::uint64_t, std::uint64_t size) const override { return size; }
};

struct MadeRegion {
  UniqueFd fd;
  region::Mapping mapping;
};

MadeRegion make_region(layout::RegionKind kind, std::uint64_t size, PartitionNumber partition, Incarnation incarnation,
                       SessionId session) {
  MadeRegion made;
  made.fd = region::create_memfd("sluice-test", size).value();
  made.mapping = region::Mapping::map(made.fd.get(), region::Access::read_write, "a test region").value();
  region::RegionInfo info;
  info.kind = kind;
  info.topic = session.value != 0 ? TopicId(0) : kTopicId;
  info.partition = partition;
  info.handle = partition + 1;
  info.incarnation = incarnation;
  info.size = size;
  info.session = session;
  region::initialise_header(made.mapping, info);
  return made;
}

}  // namespace

class LocalBus::Pins final : public ring::PinSource {
 public:
  explicit Pins(layout::SessionRegion& session) : session_(session) {}
  bool is_pinned(std::uint32_t handle, SegmentNumber segment) const override {
    for (const layout::PinCell& cell : session_.pins) {
      if (cell.pin.load(std::memory_order_acquire) == layout::pin_word(handle, segment)) return true;
    }
    return false;
  }
  std::vector<SegmentNumber> pinned(std::uint32_t) const override { return {}; }  // no memory is adopted here

 private:
  layout::SessionRegion& session_;
};

struct LocalBus::Partition {
  MadeRegion control, log, bell;
  ring::PartitionMemory memory;
  BackedMemory backing;
  std::unique_ptr<ring::SlotManager> slots;
  UniqueFd file;  // its first byte is position file_base
  Position file_base;
  Position file_end;  // written and synced up to here
  Position earliest;
};

LocalBus::LocalBus(BusShape shape) : shape_(shape) {
  make_session();
  for (PartitionNumber i = 0; i < shape_.partitions; ++i) partitions_.push_back(make_partition(i, Position(0)));
  publish_partition_count();
  word_.store(1 << 1 | 1, std::memory_order_release);
}
LocalBus::~LocalBus() = default;

void LocalBus::make_session() {
  const SessionId session(incarnation_.value + 5);
  MadeRegion made = make_region(layout::RegionKind::session, sizeof(layout::SessionRegion), 0, incarnation_, session);
  pins_.push_back(std::make_unique<Pins>(*made.mapping.at<layout::SessionRegion>()));
  const std::uint64_t generation = BusLink::generation(word()) + 1;
  auto memory = internal::SessionMemory::open(made.fd.get(), UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
                                              session, incarnation_, generation, ring::membarrier_register())
                    .value();
  const std::lock_guard lock(mutex_);
  memory_ = std::move(memory);
  session_fd_ = std::move(made.fd);
  session_mapping_ = std::move(made.mapping);
}

std::unique_ptr<LocalBus::Partition> LocalBus::make_partition(PartitionNumber number, Position start) {
  auto made = std::make_unique<Partition>();
  made->control = make_region(layout::RegionKind::control, sizeof(layout::ControlRegion), number, incarnation_, {});
  made->log = make_region(layout::RegionKind::log, layout::log_region_size(shape_.segment_size, shape_.slots), number,
                          incarnation_, {});
  made->bell = make_region(layout::RegionKind::bell, sizeof(layout::BellRegion), number, incarnation_, {});
  auto* control = made->control.mapping.at<layout::ControlRegion>();
  control->segment_size = shape_.segment_size;
  control->slots = shape_.slots;
  control->flags = shape_.flags;
  control->time_mode = shape_.time_mode;
  control->message_size_max = shape_.segment_size / kMessageSegmentFraction;
  control->claim_deadline_ns = kClaimDeadlineNsDefault;
  control->start_position = start.value;
  control->prepared.store(start.value);
  auto* log = made->log.mapping.at<layout::LogRegionHeader>();
  log->tail.store(start.value);
  made->memory = ring::PartitionMemory::view(control, log, made->bell.mapping.at<layout::BellRegion>(), -1);
  made->slots =
      std::make_unique<ring::SlotManager>(made->memory, *pins_.back(), made->backing, kTopicId, number, incarnation_);
  made->file = region::create_memfd("sluice-test-file", kFileSizeMax).value();
  made->file_base = made->file_end = made->earliest = start;
  while (made->slots->prepare_step(made->file_end)) {
  }
  return made;
}

void LocalBus::prepare(PartitionNumber number) {
  Partition& one = partition(number);
  one.slots->release_unpinned();
  while (one.slots->prepare_step(one.file_end)) {
  }
}

// A segment leaves memory only when everything in it is final: what is free becomes a pad.
void LocalBus::fill_up(Partition& one, SegmentNumber segment) {
  const ring::SegmentView view = ring::view_of(one.memory, segment, one.slots->slot_of(segment), false);
  Position at = view.start;
  ring::RecordView record;
  ring::ScanResult result;
  do {
    result = ring::scan_record(view, at, record);
  } while (result <= ring::ScanResult::corrupt_record);
  if (result != ring::ScanResult::free) return;
  auto* header =
      reinterpret_cast<layout::RecordHeader*>(one.memory.slot_base(one.slots->slot_of(segment)) + (at - view.start));
  header->claim.store(layout::ClaimWord::make(ProducerId(0), (view.end - at) / layout::kRecordAlignment,
                                              layout::RecordKind::pad, false, layout::RecordState::committed)
                          .bits);
}

void LocalBus::retire(PartitionNumber number) {
  Partition& one = partition(number);
  const SegmentNumber segment = one.slots->first_ready();
  fill_up(one, segment);
  const Position start = one.memory.start_of(segment);
  const std::byte* bytes = one.memory.slot_base(one.slots->slot_of(segment));
  const auto offset = static_cast<off_t>(start - one.file_base);
  SLUICE_ASSERT(::pwrite(one.file.get(), bytes, shape_.segment_size, offset) ==
                static_cast<ssize_t>(shape_.segment_size));
  one.file_end = start + shape_.segment_size;
  set_durable(number, one.file_end);
  one.slots->retire_first();
  prepare(number);
}

void LocalBus::set_durable(PartitionNumber number, Position durable) {
  if (control(number).durable.load() < durable.value) ring::DurableWait::publish(partition(number).memory, durable);
}
void LocalBus::set_gate(PartitionNumber number, layout::Gate gate) {
  control(number).gate.store(static_cast<std::uint32_t>(gate), std::memory_order_release);
  ring::Bell(partition(number).memory).ring_for_dead();
}
void LocalBus::set_trimmed(PartitionNumber number, Position earliest) {
  partition(number).earliest = earliest;
  control(number).trimmed.store(earliest.value, std::memory_order_release);
}
void LocalBus::add_fence(PartitionNumber number, ProducerId producer, Position at) {
  layout::ControlRegion& region = control(number);
  const std::uint32_t count = region.fence_count.load();
  region.fences[count].producer = producer.value;
  region.fences[count].position.store(at.value, std::memory_order_relaxed);
  region.fence_count.store(count + 1, std::memory_order_release);
}
Position LocalBus::append_ref(PartitionNumber number, Position reference, ProducerId producer) {
  std::atomic<std::uint64_t> pin{0};
  ring::Appender appender(partition(number).memory, producer, pin, true, Sequence(1));
  layout::TrailerBuilder trailer;
  trailer.reference(reference);
  ring::Appended appended;
  SLUICE_ASSERT(appender.append({{}, trailer.finish(), realtime_coarse_ns()}, appended, layout::RecordKind::ref) ==
                ring::AppendResult::ok);
  return appended.position;
}
void LocalBus::add_partition() {
  const std::lock_guard lock(mutex_);
  const auto number = static_cast<PartitionNumber>(partitions_.size());
  partitions_.push_back(make_partition(number, Position(0)));
  publish_partition_count();
}
void LocalBus::publish_partition_count() {
  for (const auto& one : partitions_) {
    one->memory.control->topic_partitions.exchange(static_cast<std::uint32_t>(partitions_.size()));
    ring::Bell(one->memory).published();
  }
}
layout::ControlRegion& LocalBus::control(PartitionNumber number) { return *partition(number).memory.control; }

std::uint32_t LocalBus::pins_standing() {
  std::uint32_t standing = 0;
  for (const layout::PinCell& cell : session_region().pins) standing += cell.pin.load() != 0 ? 1 : 0;
  return standing;
}

void LocalBus::damage_file(PartitionNumber number, Position at, std::uint8_t with) {
  Partition& one = partition(number);
  SLUICE_ASSERT(::pwrite(one.file.get(), &with, 1, static_cast<off_t>(at - one.file_base)) == 1);
}

void LocalBus::read_file(PartitionNumber number, Position at, std::uint8_t& into) {
  Partition& one = partition(number);
  SLUICE_ASSERT(::pread(one.file.get(), &into, 1, static_cast<off_t>(at - one.file_base)) == 1);
}

// ---- the connection ----

void LocalBus::hang_up() {
  word_.store(word() & ~std::uint64_t{1}, std::memory_order_release);
  changed();
}
void LocalBus::resume() {
  word_.store(word() | 1, std::memory_order_release);
  changed();
}

void LocalBus::replace() {
  hang_up();
  incarnation_ = Incarnation(incarnation_.value + 1);
  make_session();
  {
    const std::lock_guard lock(mutex_);
    for (PartitionNumber i = 0; i < partitions_.size(); ++i) {
      // As after a start that lost memory: a whole ring above the recovered end. What was in the file stays there.
      Partition& old = *partitions_[i];
      const Position start = old.file_end + shape_.segment_size * shape_.slots;
      auto next = make_partition(i, start);
      next->file = region::duplicate(old.file.get(), "a test file").value();
      next->file_base = old.file_base;
      next->file_end = old.file_end;
      next->earliest = old.earliest;
      next->memory.control->durable.store(start.value);
      lost_.push_back(std::move(partitions_[i]));
      partitions_[i] = std::move(next);
    }
    publish_partition_count();
  }
  word_.store((BusLink::generation(word()) + 1) << 1 | 1, std::memory_order_release);
  changed();
}

ConnectionState LocalBus::state() const {
  return BusLink::online(word()) ? ConnectionState::connected : ConnectionState::disconnected;
}
Status LocalBus::health() const {
  if (BusLink::online(word())) return {};
  return fail(ErrorCode::no_daemon, "the local bus has hung up");
}
Status LocalBus::wait_online(Duration timeout) const {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (!BusLink::online(word())) {
    if (std::chrono::steady_clock::now() >= deadline) return health();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return {};
}
std::shared_ptr<internal::SessionMemory> LocalBus::memory() const {
  const std::lock_guard lock(mutex_);
  return memory_;
}

// ---- control calls ----

internal::PartitionGrant LocalBus::grant(PartitionNumber number, bool produce) {
  Partition& one = partition(number);
  internal::PartitionGrant granted;
  granted.partition = number;
  granted.control = region::reopen_read_only(one.control.fd.get(), "control").value();
  granted.log = produce ? region::reopen_read_write(one.log.fd.get(), "log").value()
                        : region::reopen_read_only(one.log.fd.get(), "log").value();
  granted.bell = region::reopen_read_write(one.bell.fd.get(), "bell").value();
  return granted;
}

Result<internal::ProducerGrant> LocalBus::open_producer(std::string_view topic, std::string_view,
                                                        const internal::GrantSink& sink) {
  if (topic != kTopic) return fail(ErrorCode::not_found, "opening a producer: no such topic");
  internal::ProducerGrant given;
  SLUICE_ASSIGN(given.pin, internal::PinLease::take(memory()));
  const std::lock_guard lock(mutex_);
  ++opens_;
  given.id = ProducerId(next_producer_++);
  given.topic = kTopicId;
  given.partition_count = static_cast<std::uint32_t>(partitions_.size());
  for (PartitionNumber i = 0; i < partitions_.size(); ++i) SLUICE_TRY(sink(grant(i, true)));
  return given;
}

// Walks over what is in memory, as the daemon's scan does.
Position LocalBus::committed_end(const Partition& partition) const {
  Position at = std::max(partition.file_end, Position(partition.memory.control->start_position));
  for (SegmentNumber segment = partition.slots->first_ready(); partition.slots->is_ready(segment);
       segment = segment.next()) {
    const ring::SegmentView view = ring::view_of(partition.memory, segment, partition.slots->slot_of(segment), false);
    at = std::max(at, view.start);
    ring::RecordView record;
    while (ring::scan_record(view, at, record) <= ring::ScanResult::corrupt_record) {
    }
    if (at < view.end) break;
  }
  return at;
}

Result<internal::ReaderGrant> LocalBus::open_reader(std::string_view topic,
                                                    const std::vector<PartitionNumber>& partitions, bool cursors,
                                                    const internal::GrantSink& sink) {
  if (topic != kTopic) return fail(ErrorCode::not_found, "opening a reader: no such topic");
  internal::ReaderGrant given;
  given.memory = memory();
  const std::lock_guard lock(mutex_);
  ++opens_;
  if (refused_reads_ != 0 && refused_reads_-- != 0)
    return fail(ErrorCode::timed_out, "opening a reader: the test lets it wait");
  given.id = next_reader_++;
  given.topic = kTopicId;
  given.partition_count = static_cast<std::uint32_t>(partitions_.size());
  for (PartitionNumber i = 0; i < partitions_.size(); ++i) {
    if (!partitions.empty() && std::find(partitions.begin(), partitions.end(), i) == partitions.end()) continue;
    given.ranges.push_back({i, partitions_[i]->earliest, committed_end(*partitions_[i])});
    if (cursors) {
      internal::ReaderCursor cursor;
      cursor.partition = i;
      SLUICE_ASSIGN(cursor.cell, internal::CursorLease::take(given.memory));
      given.cursors.push_back(std::move(cursor));
    }
    SLUICE_TRY(sink(grant(i, false)));
  }
  return given;
}

Status LocalBus::open_partitions(std::string_view, bool produce, PartitionNumber first, const internal::GrantSink& sink,
                                 Duration) {
  const std::lock_guard lock(mutex_);
  ++opens_;
  for (PartitionNumber i = first; i < partitions_.size(); ++i) SLUICE_TRY(sink(grant(i, produce)));
  return {};
}

Result<internal::LocateAnswer> LocalBus::locate(TopicId, PartitionNumber number, Position position, bool damaged) {
  const std::lock_guard lock(mutex_);
  ++locates_;
  Partition& one = *partitions_.at(number);
  internal::LocateAnswer answer;
  if (damaged && mender_ && mender_(position)) return answer;
  if (const auto quarantined = quarantined_.find(position); quarantined != quarantined_.end()) {
    answer.kind = internal::LocateAnswer::Kind::skip;
    answer.position = quarantined->second;
    return answer;
  }
  if (position < one.earliest) {
    answer.kind = internal::LocateAnswer::Kind::trimmed;
    answer.position = one.earliest;
  } else if (position < one.file_end) {
    answer.kind = internal::LocateAnswer::Kind::file;
    SLUICE_ASSIGN(answer.file, region::reopen_read_only(one.file.get(), "a test file"));
    answer.base = one.file_base;
    answer.data_end = one.file_end;
  } else if (position < Position(one.memory.control->start_position)) {
    answer.kind = internal::LocateAnswer::Kind::skip;
    answer.position = Position(one.memory.control->start_position);
  }
  return answer;
}

Result<Position> LocalBus::seek_time(TopicId, PartitionNumber number, std::uint64_t) {
  return partition(number).earliest;
}
Status LocalBus::report_sequences(TopicId, const std::vector<internal::SequenceReport>& reports, Duration) {
  reports_.insert(reports_.end(), reports.begin(), reports.end());
  return {};
}
Result<std::string> LocalBus::gate_reason(std::string_view, PartitionNumber) {
  return std::string("the test says that the disk is broken");
}

// ---- consumer groups ----

Result<internal::MemberGrant> LocalBus::join_group(const internal::JoinGroup& request) {
  SLUICE_TRY(health());
  return group_.join(request, memory());
}
Status LocalBus::leave_group(std::uint64_t member, std::uint64_t) {
  SLUICE_TRY(health());
  return group_.leave(member);
}
Result<std::vector<internal::Assignment>> LocalBus::assignments(std::uint64_t member) {
  SLUICE_TRY(health());
  return group_.assignments(member);
}
Result<std::vector<internal::EpochStart>> LocalBus::group_epochs(std::string_view, TopicId, PartitionNumber) {
  SLUICE_TRY(health());
  return group_.epochs();
}
Status LocalBus::save_acks(std::uint64_t member, Duration) {
  SLUICE_TRY(health());
  return group_.save(member);
}

}  // namespace sluice::test
