#include "tests/daemon/control/fake_bus.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "shm/base/assert.h"
#include "shm/region/memfd.h"
#include "shm/region/region.h"

namespace sluice::test {

using session::Session;

FakeBus::FakeBus(std::uint64_t incarnation)
    : sessions(Incarnation(incarnation)),
      incarnation_(incarnation),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_([this] { serve(); }) {}

FakeBus::~FakeBus() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    blocked_ = false;
  }
  changed_.notify_all();
  thread_.join();
}

void FakeBus::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || (!blocked_ && !inbox_.empty()); });
    if (stopping_) return;
    auto call = std::move(inbox_.front());
    inbox_.pop_front();
    lock.unlock();
    call(*this);
    call = nullptr;
    lock.lock();
  }
}

bool FakeBus::post(std::function<void(session::BusInterface&)> call) {
  if (refusing_) return false;
  {
    const std::lock_guard lock(mutex_);
    inbox_.push_back(std::move(call));
  }
  changed_.notify_all();
  return true;
}

void FakeBus::block(bool on) {
  {
    const std::lock_guard lock(mutex_);
    blocked_ = on;
  }
  changed_.notify_all();
}

void FakeBus::run(const std::function<void(FakeBus&)>& call) {
  std::mutex mutex;
  std::condition_variable done_changed;
  bool done = false;
  post([&](session::BusInterface&) {
    call(*this);
    const std::lock_guard lock(mutex);
    done = true;
    done_changed.notify_all();
  });
  std::unique_lock lock(mutex);
  done_changed.wait(lock, [&] { return done; });
}

bool FakeBus::eventually(const std::function<bool(FakeBus&)>& condition) {
  for (int i = 0; i < 10000; ++i) {
    bool holds = false;
    run([&](FakeBus& bus) { holds = condition(bus); });
    if (holds) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

Result<Session*> FakeBus::alive(SessionId id) const {
  Session* found = sessions.find(id);
  if (found == nullptr || found->revoked()) return fail(ErrorCode::revoked, "the session was ended");
  return found;
}

Result<FakeBus::Topic*> FakeBus::find(const std::string& name) {
  const auto found = topics.find(name);
  if (found == topics.end()) return fail(ErrorCode::not_found, "there is no topic " + name);
  return &found->second;
}

Result<session::Welcome> FakeBus::attach(session::HelloRequest request) {
  last_hello = request;
  Session* found = sessions.find_resumable(request.resume_token, request.peer);
  session::Welcome welcome;
  welcome.resumed = found != nullptr;
  if (found == nullptr) {
    SLUICE_ASSIGN(found, sessions.create(request.peer, request.client_name, request.membarrier));
    SLUICE_ASSIGN(welcome.session_region, found->hand_out());
    SLUICE_ASSIGN(welcome.wake, region::duplicate(wake_.get(), "eventfd"));
  }
  found->set_connected(true);
  welcome.session = found->id();
  welcome.incarnation = incarnation_;
  welcome.token = found->token();
  welcome.daemon_version = "test";
  welcome.daemon_pid = ::getpid();
  return welcome;
}

bool FakeBus::on_peer(SessionId id, session::PeerEvent event) {
  peer_events.emplace_back(id, event);
  Session* found = sessions.find(id);
  if (found == nullptr) return true;
  if (event == session::PeerEvent::hung_up) found->set_connected(false);
  if (!found->is_dead().value()) return false;
  proven_dead.push_back(id);
  sessions.remove(id);
  return true;
}

Status FakeBus::create_topic(SessionId id, core::TopicRequest request) {
  SLUICE_TRY(alive(id));
  const core::TopicConfig config = core::complete(std::move(request), topic_defaults);
  ++creates;
  if (on_create) SLUICE_TRY(on_create());
  if (topics.contains(config.name)) return fail(ErrorCode::exists, "creating topic " + config.name + ": it exists");
  topics.emplace(config.name, Topic{TopicId(next_topic_++), config});
  return {};
}

Status FakeBus::alter_topic(SessionId id, const std::string& name, core::TopicChange change) {
  SLUICE_TRY(alive(id));
  SLUICE_ASSIGN(Topic * topic, find(name));
  if (change.partitions) topic->config.partitions = *change.partitions;
  if (change.retention_bytes) topic->config.retention_bytes = *change.retention_bytes;
  if (change.retention_time_ns) topic->config.retention_time_ns = *change.retention_time_ns;
  if (change.message_ttl_ns) topic->config.message_ttl_ns = *change.message_ttl_ns;
  if (change.overflow) topic->config.overflow = *change.overflow;
  return {};
}

Status FakeBus::delete_topic(SessionId id, const std::string& name) {
  SLUICE_TRY(alive(id));
  if (topics.erase(name) == 0) return fail(ErrorCode::not_found, "deleting topic " + name + ": there is none");
  return {};
}

Status FakeBus::recover_topic(SessionId id, const std::string& name, std::optional<PartitionNumber> partition) {
  SLUICE_TRY(alive(id));
  SLUICE_TRY(find(name));
  recovered.push_back(name + "/" + (partition ? std::to_string(*partition) : "all"));
  return {};
}

Result<session::ScrubReport> FakeBus::scrub_topic(SessionId id, const std::string& name,
                                                  std::optional<PartitionNumber> partition, bool start) {
  SLUICE_TRY(alive(id));
  SLUICE_TRY(find(name));
  session::ScrubReport report;
  report.run = 1;
  report.running = start;
  report.copies = 2;
  report.segments = 3;
  report.bytes = 4;
  report.mended_segments = 5;
  report.mended_bytes = 6;
  report.damaged_bytes = 7;
  report.damaged.push_back({partition.value_or(77), Position(8), Position(9), "a test"});
  report.errors.emplace_back("an error");
  return report;
}

Result<std::vector<session::TopicInfo>> FakeBus::list_topics(SessionId id) {
  SLUICE_TRY(alive(id));
  std::vector<session::TopicInfo> list;
  for (const auto& [name, topic] : topics) list.push_back(describe_topic(id, name).value());
  return list;
}

Result<session::TopicInfo> FakeBus::describe_topic(SessionId id, const std::string& name) {
  SLUICE_TRY(alive(id));
  SLUICE_ASSIGN(Topic * topic, find(name));
  session::TopicInfo info;
  info.record = {topic->id, topic->config, 123};
  for (PartitionNumber i = 0; i < topic->config.partitions; ++i) {
    session::PartitionInfo partition;
    partition.partition = i;
    partition.gate = layout::Gate::poisoned;
    partition.gate_reason = "a test";
    partition.earliest = Position(1);
    partition.committed = Position(2);
    partition.durable = Position(3);
    partition.tail = Position(4);
    partition.prepared = Position(5);
    partition.memory_start = Position(6);
    partition.file_count = 7;
    partition.file_bytes = 8;
    partition.records = 9;
    partition.slots_used = 10;
    partition.slots_pinned = 11;
    partition.open_claims = 12;
    partition.quarantined_bytes = 13;
    partition.corrupt_records = 14;
    partition.delayed = 15;
    partition.next_due_ns = 1'600'000'000'000'000'000;
    info.partitions.push_back(partition);
  }
  info.producers = 15;
  info.readers = 16;
  return info;
}

session::PartitionGrant FakeBus::grant(const Topic& topic, PartitionNumber partition, bool writable) {
  const auto make = [&](layout::RegionKind kind, std::uint64_t size, bool for_writing) {
    UniqueFd fd = region::create_memfd("test-region", size).value();
    const auto mapping = region::Mapping::map(fd.get(), region::Access::read_write, "test").value();
    region::initialise_header(mapping, {kind, topic.id, partition, 0, incarnation_, mapping.size(), SessionId(0)});
    return (for_writing ? region::reopen_read_write(fd.get(), "test") : region::reopen_read_only(fd.get(), "test"))
        .value();
  };
  return {partition, make(layout::RegionKind::control, sizeof(layout::ControlRegion), false),
          make(layout::RegionKind::log, layout::kLogHeaderSize, writable),
          make(layout::RegionKind::bell, sizeof(layout::BellRegion), true)};
}

Result<session::ProducerGrant> FakeBus::open_producer(SessionId id, session::OpenProducer request) {
  SLUICE_ASSIGN(Session * owner, alive(id));
  SLUICE_ASSIGN(Topic * topic, find(request.topic));
  session::ProducerGrant answer;
  answer.id = ProducerId(next_producer_++);
  answer.topic = topic->id;
  answer.partition_count = topic->config.partitions;
  const std::uint32_t count = std::min(topic->config.partitions, session::kGrantPartitionsMax);
  for (PartitionNumber i = 0; i < count; ++i) answer.partitions.push_back(grant(*topic, i, true));
  if (!request.name.empty()) answer.last.push_back({0, Sequence(41), "bookmark of " + request.name});
  owner->add_producer({answer.id, topic->id, request.name, request.pin});
  return answer;
}

Status FakeBus::close_producer(SessionId id, ProducerId producer) {
  SLUICE_ASSIGN(Session * owner, alive(id));
  if (!owner->remove_producer(producer)) return fail(ErrorCode::not_found, "there is no such producer");
  return {};
}

Result<session::ReaderGrant> FakeBus::open_reader(SessionId id, session::OpenReader request) {
  SLUICE_ASSIGN(Session * owner, alive(id));
  SLUICE_ASSIGN(Topic * topic, find(request.topic));
  session::ReaderGrant answer;
  answer.topic = topic->id;
  answer.partition_count = topic->config.partitions;
  std::vector<session::CursorEntry> cursors;
  std::vector<PartitionNumber> wanted;
  for (const auto& cursor : request.cursors) {
    wanted.push_back(cursor.partition);
    if (cursor.cell != session::kNoCursor) cursors.push_back({cursor.partition, cursor.partition + 100, cursor.cell});
  }
  if (wanted.empty()) {
    for (PartitionNumber i = 0; i < topic->config.partitions; ++i) wanted.push_back(i);
  }
  std::sort(wanted.begin(), wanted.end());
  for (const PartitionNumber partition : wanted) {
    if (partition >= topic->config.partitions) return fail(ErrorCode::not_found, "there is no such partition");
    answer.ranges.push_back({partition, Position(10), Position(20)});
    if (answer.partitions.size() < session::kGrantPartitionsMax) {
      answer.partitions.push_back(grant(*topic, partition, false));
    }
  }
  answer.id = sessions.add_reader(*owner, topic->id, std::move(cursors));
  return answer;
}

Status FakeBus::close_reader(SessionId id, std::uint64_t reader) {
  SLUICE_ASSIGN(Session * owner, alive(id));
  if (!sessions.remove_reader(*owner, reader)) return fail(ErrorCode::not_found, "there is no such reader");
  return {};
}

Result<std::vector<session::PartitionGrant>> FakeBus::open_partitions(SessionId id, const std::string& name,
                                                                      session::Access access, PartitionNumber first,
                                                                      std::uint32_t count) {
  SLUICE_TRY(alive(id));
  SLUICE_ASSIGN(Topic * topic, find(name));
  std::vector<session::PartitionGrant> grants;
  for (PartitionNumber i = first; i < topic->config.partitions && grants.size() < count; ++i) {
    grants.push_back(grant(*topic, i, access == session::Access::produce));
  }
  return grants;
}

Result<session::LocateAnswer> FakeBus::locate(SessionId id, TopicId, PartitionNumber, Position position, bool) {
  SLUICE_TRY(alive(id));
  session::LocateAnswer answer;
  switch (position.value) {
    case 0: answer.kind = session::LocateAnswer::Kind::trimmed; break;
    case 1: answer.kind = session::LocateAnswer::Kind::skip; break;
    case 2: return answer;
    case 3: return fail(ErrorCode::io, "the disk failed");
    default:
      answer.kind = session::LocateAnswer::Kind::file;
      answer.file = UniqueFd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
      answer.base = Position(100);
      answer.data_end = Position(200);
      return answer;
  }
  answer.position = Position(77);
  return answer;
}

Result<Position> FakeBus::seek_time(SessionId id, TopicId, PartitionNumber partition, std::uint64_t time) {
  SLUICE_TRY(alive(id));
  return Position(time * 10 + partition);
}

Result<std::vector<session::PartitionRange>> FakeBus::end_positions(SessionId id, const std::string& name) {
  SLUICE_TRY(alive(id));
  SLUICE_ASSIGN(Topic * topic, find(name));
  std::vector<session::PartitionRange> ranges;
  for (PartitionNumber i = 0; i < topic->config.partitions; ++i) ranges.push_back({i, Position(10), Position(20)});
  return ranges;
}

Status FakeBus::report_sequences(SessionId id, TopicId, std::vector<session::SequenceReport> given) {
  SLUICE_TRY(alive(id));
  reports.insert(reports.end(), given.begin(), given.end());
  return {};
}

Result<session::AuditReport> FakeBus::audit(SessionId id, const std::string& name) {
  SLUICE_TRY(alive(id));
  SLUICE_TRY(find(name));
  session::AuditRow row;
  row.partition = 2;
  row.row.producer = ProducerId(9);
  row.row.name = "p";
  core::AuditCounts& counts = row.row.counts;
  counts.sequence_first = Sequence(1);
  counts.sequence_last = Sequence(100);
  std::uint64_t next = 1;
  for (std::uint64_t* count : {&counts.data, &counts.committed_halves, &counts.rolled_back, &counts.open,
                               &counts.delayed, &counts.aborted, &counts.fenced, &counts.dropped, &counts.expired,
                               &counts.cut, &counts.quarantined, &counts.gaps, &counts.repeats}) {
    *count = next++;
  }
  return session::AuditReport{{row}, true};
}

Result<session::BusStatus> FakeBus::status(SessionId id) {
  SLUICE_TRY(alive(id));
  session::BusStatus status;
  status.version = "test";
  status.pid = ::getpid();
  status.incarnation = incarnation_;
  status.sessions = static_cast<std::uint32_t>(sessions.size());
  status.topics = static_cast<std::uint32_t>(topics.size());
  status.recovery = {"cut 7 bytes", "all well"};
  return status;
}

Result<std::vector<session::DoctorCheck>> FakeBus::doctor(SessionId id, bool quick) {
  SLUICE_TRY(alive(id));
  return std::vector<session::DoctorCheck>{{"memory", quick, "all there", "nothing"}};
}

Result<std::vector<session::SessionInfo>> FakeBus::list_sessions(SessionId id) {
  SLUICE_TRY(alive(id));
  std::vector<session::SessionInfo> list;
  sessions.for_each([&](const Session& one) {
    list.push_back({one.id(), one.peer().pid, one.peer().uid, one.client_name(),
                    static_cast<std::uint32_t>(one.producers().size()),
                    static_cast<std::uint32_t>(one.readers().size()), static_cast<std::uint32_t>(one.pins().size()),
                    one.connected()});
  });
  return list;
}

Status FakeBus::kill_session(SessionId id, SessionId victim) {
  SLUICE_TRY(alive(id));
  Session* found = sessions.find(victim);
  if (found == nullptr) return fail(ErrorCode::not_found, "there is no such session");
  found->revoke();
  return {};
}

Result<std::string> FakeBus::config(SessionId id) {
  SLUICE_TRY(alive(id));
  return std::string("[daemon]\n");
}

TemporaryFolder::TemporaryFolder() {
  char path[] = "/tmp/sluice-control-XXXXXX";
  SLUICE_ASSERT(::mkdtemp(path) != nullptr);
  path_ = path;
}

TemporaryFolder::~TemporaryFolder() { std::filesystem::remove_all(path_); }

RunningServer::RunningServer(const std::string& socket, session::BusPoster& poster, std::optional<uid_t> owner) {
  control::ServerOptions options;
  options.socket = socket;
  options.owner = owner.value_or(::geteuid());
  server_ = control::Server::listen(std::move(options), poster).value();
  thread_ = std::thread([this] {
    const Status status = server_->run();
    SLUICE_ASSERT(status.has_value());
  });
}

RunningServer::~RunningServer() {
  server_->stop();
  thread_.join();
}

}  // namespace sluice::test
