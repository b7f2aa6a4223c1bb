#include "tests/daemon/bus/bus_rig.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <utility>

#include "daemon/io/mirror_set.h"
#include "daemon/io/pwrite_disk.h"
#include "shm/base/assert.h"
#include "shm/base/clock.h"
#include "shm/layout/trailer.h"
#include "shm/ring/scanner.h"

namespace sluice::bus {
namespace {

constexpr std::uint64_t kFlushIntervalNs = 1'000'000;
constexpr uid_t kStranger = 65534;
constexpr gid_t kStrangers = 65534;

region::Mapping map(const UniqueFd& fd, region::Access access) {
  return region::Mapping::map(fd.get(), access, "a test region").value();
}

session::Peer self() { return {::geteuid(), ::getegid(), ::getpid(), {}}; }

// As main does it, but for the locks.
Result<CopySet> open_copies(const std::vector<std::string>& roots) {
  io::PwriteDisk::Options options;
  options.direct_io = false;
  options.queue_depth = io::MirrorDisk::inner_queue_depth(io::kQueueDepthDefault, roots.size());
  CopySet set;
  SLUICE_ASSIGN(std::unique_ptr<io::Disk> inner, io::PwriteDisk::create(options));
  const auto random = [] { return std::uint64_t{std::random_device{}()}; };
  SLUICE_ASSIGN(io::MirrorSet copies, io::open_mirror_set(*inner, {roots, {}, random}));
  for (const io::MirrorCopy& copy : copies.copies)
    if (copy.good) SLUICE_TRY(DataDirectory::prepare(copy.root));
  set.disk = std::make_unique<io::MirrorDisk>(std::move(inner), std::move(copies), io::MirrorDisk::Options{});
  return set;
}

}  // namespace

void TestProducer::send(std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i) {
    ring::Appended appended;
    SLUICE_ASSERT(appender->append({{}, {}, realtime_coarse_ns()}, appended) == ring::AppendResult::ok);
  }
}

bool TestProducer::send_delayed(std::uint64_t due_ns, std::size_t size, Position& position) {
  const std::vector<std::byte> payload(size, std::byte{7});
  layout::TrailerBuilder trailer;
  trailer.due(due_ns);
  ring::Appended appended;
  if (appender->append({payload, trailer.finish(), 1}, appended, layout::RecordKind::delayed) != ring::AppendResult::ok)
    return false;
  position = appended.position;
  return true;
}

bool TestProducer::send_half(const layout::HalfEntry& half, std::size_t size, Position& position) {
  const std::vector<std::byte> payload(size, std::byte{7});
  layout::TrailerBuilder trailer;
  if (!trailer.half(half)) return false;
  ring::Appended appended;
  if (appender->append({payload, trailer.finish(), 1}, appended, layout::RecordKind::half) != ring::AppendResult::ok)
    return false;
  position = appended.position;
  return true;
}

BusRig::BusRig() {
  std::string pattern = (std::filesystem::temp_directory_path() / "sluice-bus-XXXXXX").string();
  SLUICE_ASSERT(::mkdtemp(pattern.data()) != nullptr);
  folder_ = pattern;
  wake_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  SLUICE_ASSERT(start().has_value());
}

BusRig::~BusRig() {
  work();
  bus_.reset();
  store_.reset();
  disk_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

Status BusRig::start(keep::Inheritance inherited) {
  directory_.emplace(DataDirectory::open(folder_ + "/data").value());
  store_ = store::open_sqlite_store(directory_->store_path()).value();
  io::PwriteDisk::Options options;
  options.direct_io = false;
  disk_ = io::PwriteDisk::create(options).value();
  BusSettings settings;
  settings.policy = {::geteuid(), kStrangers};
  settings.memory_budget = std::uint64_t{256} << 20;
  settings.flush_interval_ns = kFlushIntervalNs;
  settings.retention_interval_ns = 4 * kFlushIntervalNs;
  settings.segments_per_file = 2;
  settings.topic_mirrors.roots = {mirror_root()};
  settings.topic_mirrors.open = open_copies;
  settings.wall_ns = [this] { return wall_ns; };
  SLUICE_ASSIGN(
      bus_, Bus::start(std::move(settings), *directory_, *disk_, *store_, wake_.get(), &keeper_, std::move(inherited)));
  return {};
}

void BusRig::let_go() {
  bus_.reset();
  store_.reset();
  disk_.reset();
  directory_.reset();
}

Status BusRig::try_kill_and_start() {
  let_go();
  return start();
}

void BusRig::kill_and_start() { SLUICE_ASSERT(try_kill_and_start().has_value()); }

Status BusRig::try_kill_and_keep() {
  let_go();
  return start(keeper_.inheritance());
}

void BusRig::kill_and_keep() {
  const Status started = try_kill_and_keep();
  SLUICE_ASSERT(started.has_value());
}

void BusRig::stop_and_keep() {
  bus_->begin_stop();
  work();
  SLUICE_ASSERT(bus_->finish_stop().has_value());
  kill_and_keep();
}

void BusRig::stop_and_start() {
  bus_->begin_stop();
  work();
  SLUICE_ASSERT(bus_->finish_stop().has_value());
  kill_and_start();
}

// A turn without progress comes twice: the flush interval passes in between.
void BusRig::work() {
  for (int idle = 0; idle < 3;) {
    now_ns_ = std::max(now_ns_, monotonic_ns()) + kFlushIntervalNs;
    idle = bus_->do_work(now_ns_).progressed ? 0 : idle + 1;
  }
}

void BusRig::turns(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    now_ns_ = std::max(now_ns_, monotonic_ns()) + kFlushIntervalNs / 4;
    bus_->do_work(now_ns_);
  }
}

TestClient BusRig::attach() { return attach(self()); }

TestClient BusRig::attach_stranger() { return attach({kStranger, kStrangers, ::getpid(), {}}); }

TestClient BusRig::attach(const session::Peer& peer) {
  session::HelloRequest hello;
  hello.peer = peer;
  hello.client_name = "test";
  session::Welcome welcome = bus_->attach(std::move(hello)).value();
  return {welcome.session, map(welcome.session_region, region::Access::read_write), welcome.token, peer};
}

void BusRig::end(TestClient client) {
  const SessionId id = client.id;
  client.region = {};  // the last of what holds the session lock
  SLUICE_ASSERT(bus_->on_peer(id, session::PeerEvent::hung_up));
}

TestProducer BusRig::produce(const TestClient& client, std::uint32_t pin, const std::string& name) {
  session::ProducerGrant grant = bus_->open_producer(client.id, {kTopic, name, pin}).value();
  session::PartitionGrant& partition = grant.partitions.front();
  TestProducer made;
  made.id = grant.id;
  made.control = map(partition.control, region::Access::read_only);
  made.log = map(partition.log, region::Access::read_write);
  made.bell = map(partition.bell, region::Access::read_write);
  const auto memory =
      ring::PartitionMemory::view(made.control.at<layout::ControlRegion>(), made.log.at<layout::LogRegionHeader>(),
                                  made.bell.at<layout::BellRegion>(), wake_.get());
  const Sequence next = grant.last.empty() ? Sequence(1) : grant.last.front().sequence.next();
  made.appender.emplace(memory, grant.id, client.region.at<layout::SessionRegion>()->pins[pin].pin, true, next);
  return made;
}

void BusRig::create_topic(core::TopicConfig config) {
  const TestClient client = attach();
  core::TopicRequest request;
  request.config = std::move(config);
  request.config.name = kTopic;
  SLUICE_ASSERT(bus_->create_topic(client.id, std::move(request)).has_value());
}

session::AuditReport BusRig::audit() {
  const TestClient client = attach();
  return bus_->audit(client.id, kTopic).value();
}

core::AuditCounts BusRig::counts_of(ProducerId producer) {
  for (const session::AuditRow& row : audit().rows)
    if (row.row.producer == producer) return row.row.counts;
  return {};
}

session::PartitionInfo BusRig::partition() {
  const TestClient client = attach();
  return bus_->describe_topic(client.id, kTopic).value().partitions.front();
}

std::uint64_t BusRig::cut() {
  std::uint64_t cut = 0;
  for (const session::AuditRow& row : audit().rows) cut += row.row.counts.cut;
  return cut;
}

std::map<Position, int> BusRig::refs_on_disk() const {
  std::map<Position, int> refs;
  const std::string directory = folder_ + "/data/topics/" + kTopic + "/0";
  for (const auto& file : std::filesystem::directory_iterator(directory)) {
    if (file.path().extension() != ".log") continue;
    std::ifstream in(file.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    const std::uint64_t base = std::stoull(file.path().stem().string());
    for (std::uint64_t offset = 0; offset + 64 <= bytes.size(); offset += kSegmentSizeMin) {
      std::string copy = bytes.substr(offset, kSegmentSizeMin);
      copy.resize(kSegmentSizeMin);
      layout::SegmentHeader header;
      std::memcpy(&header, copy.data(), sizeof header);
      ring::SegmentView view;
      view.base = reinterpret_cast<const std::byte*>(copy.data());
      view.start = Position(base + offset);
      view.limit = view.end = view.start + kSegmentSizeMin;
      view.checksum = header.checksum;
      view.verify = true;
      Position at = view.start;
      ring::RecordView record;
      while (true) {
        const ring::ScanResult result = ring::scan_record(view, at, record);
        if (result > ring::ScanResult::pad) break;
        if (result != ring::ScanResult::record || record.fields.claim.kind() != layout::RecordKind::ref) continue;
        const auto entry = layout::find_entry(record.trailer, layout::TrailerType::reference);
        ++refs[Position(layout::as_u64(entry).value_or(0))];
      }
    }
  }
  return refs;
}

}  // namespace sluice::bus
