#include "sdk/control_client.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "sdk/control_loop.h"
#include "shm/ring/membarrier.h"

namespace sluice::internal {
namespace {

constexpr std::size_t kReportsPerCallMax = 8192;

using Doing = std::string;

Doing on_topic(std::string_view verb, std::string_view topic) {
  std::string text(verb);
  text += " topic ";
  text += topic;
  return text;
}

// Grants whose descriptors are still in flight.
kj::Promise<Result<std::vector<PartitionGrant>>> take_grants(capnp::List<protocol::PartitionGrant>::Reader in) {
  auto promises = kj::heapArrayBuilder<kj::Promise<Result<UniqueFd>>>(in.size() * 3);
  std::vector<PartitionNumber> numbers;
  for (const auto grant : in) {
    const std::string what = "partition " + std::to_string(grant.getPartition());
    numbers.push_back(grant.getPartition());
    promises.add(take_descriptor(grant.getControl(), what));
    promises.add(take_descriptor(grant.getLog(), what));
    promises.add(take_descriptor(grant.getBell(), what));
  }
  return kj::joinPromises(promises.finish())
      .then([numbers = std::move(numbers)](kj::Array<Result<UniqueFd>> fds) -> Result<std::vector<PartitionGrant>> {
        for (const auto& fd : fds) {
          if (!fd) return fail(fd.error());
        }
        std::vector<PartitionGrant> grants;
        for (std::size_t i = 0; i < numbers.size(); ++i) {
          grants.push_back(
              {numbers[i], std::move(*fds[3 * i]), std::move(*fds[3 * i + 1]), std::move(*fds[3 * i + 2])});
        }
        return grants;
      });
}

// Hands grants to the sink, or keeps them.
Status deliver(std::vector<PartitionGrant> batch, const GrantSink& sink, std::vector<PartitionGrant>& kept) {
  for (PartitionGrant& grant : batch) {
    if (sink) {
      SLUICE_TRY(sink(std::move(grant)));
    } else {
      kept.push_back(std::move(grant));
    }
  }
  return {};
}

// What is left of a timeout that began at `start`; never 0, which would mean the default.
class Budget {
 public:
  explicit Budget(Duration timeout) : end_(std::chrono::steady_clock::now() + timeout) {}
  Duration left() const {
    return std::max<Duration>(end_ - std::chrono::steady_clock::now(), std::chrono::milliseconds(1));
  }

 private:
  std::chrono::steady_clock::time_point end_;
};

}  // namespace

ControlClient::ControlClient(ConnectOptions options) : shared_(std::make_unique<Shared>()) {
  shared_->options = std::move(options);
  shared_->membarrier = ring::membarrier_register();
  shared_->pid = ::getpid();
}

Result<std::unique_ptr<ControlClient>> ControlClient::connect(ConnectOptions options) {
  std::unique_ptr<ControlClient> client(new ControlClient(std::move(options)));
  client->loop_ = std::make_unique<Loop>(*client);
  SLUICE_TRY(client->loop_->start());
  return client;
}

ControlClient::~ControlClient() {
  if (::getpid() == shared_->pid) return;
  // In a forked child there is no control thread to stop: what it uses stays as it is.
  static_cast<void>(loop_.release());
  static_cast<void>(shared_.release());
}

ConnectionState ControlClient::state() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->state;
}

Status ControlClient::health() const {
  const std::lock_guard lock(shared_->mutex);
  if (shared_->trouble) return fail(*shared_->trouble);
  return {};
}

std::shared_ptr<SessionMemory> ControlClient::memory() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->memory;
}

const std::string& ControlClient::socket() const { return shared_->options.socket; }

Status ControlClient::wait_online(Duration timeout) const {
  std::unique_lock lock(shared_->mutex);
  const bool decided = shared_->changed.wait_for(
      lock, timeout, [this] { return online() || shared_->state == ConnectionState::closed; });
  if (decided && online()) return {};
  if (shared_->trouble) return fail(*shared_->trouble);
  return fail(ErrorCode::no_daemon, "waiting for the daemon at " + shared_->options.socket + ": it is away");
}

Status ControlClient::create_topic(const TopicConfig& config, Duration timeout) {
  return loop_->call<void>({on_topic("creating", config.name), timeout, false, {}}, [&](const Loop::Target& target) {
    auto request = target.session.createTopicRequest();
    write_config(request.initConfig(), config);
    return request.send().then([](auto answer) { return read_done(answer.getDone()); });
  });
}

Status ControlClient::alter_topic(std::string_view name, const TopicChange& change, Duration timeout) {
  return loop_->call<void>({on_topic("altering", name), timeout, false, {}}, [&](const Loop::Target& target) {
    auto request = target.session.alterTopicRequest();
    request.setName(std::string(name));
    write_change(request.initChange(), change);
    return request.send().then([](auto answer) { return read_done(answer.getDone()); });
  });
}

Status ControlClient::delete_topic(std::string_view name, Duration timeout) {
  return loop_->call<void>({on_topic("deleting", name), timeout, false, {}}, [&](const Loop::Target& target) {
    auto request = target.session.deleteTopicRequest();
    request.setName(std::string(name));
    return request.send().then([](auto answer) { return read_done(answer.getDone()); });
  });
}

Status ControlClient::recover_topic(std::string_view name, std::optional<PartitionNumber> partition, Duration timeout) {
  return loop_->call<void>({on_topic("recovering", name), timeout, false, {}}, [&](const Loop::Target& target) {
    auto request = target.session.recoverTopicRequest();
    request.setName(std::string(name));
    request.setAll(!partition);
    request.setPartition(partition.value_or(0));
    return request.send().then([](auto answer) { return read_done(answer.getDone()); });
  });
}

Result<ScrubReport> ControlClient::scrub_topic(std::string_view name, std::optional<PartitionNumber> partition,
                                               bool start, Duration timeout) {
  return loop_->call<ScrubReport>({on_topic("scrubbing", name), timeout, true, {}}, [&](const Loop::Target& target) {
    auto request = target.session.scrubTopicRequest();
    request.setName(std::string(name));
    request.setAll(!partition);
    request.setPartition(partition.value_or(0));
    request.setStart(start);
    return request.send().then([](auto answer) -> Result<ScrubReport> {
      const auto response = answer.getResponse();
      if (response.isFailure()) return fail(read_failure(response.getFailure()));
      return read_scrub(response.getReport());
    });
  });
}

Result<std::vector<TopicInfo>> ControlClient::list_topics(Duration timeout) {
  using Topics = std::vector<TopicInfo>;
  return loop_->call<Topics>({"listing topics", timeout, true, {}}, [](const Loop::Target& target) {
    return target.session.listTopicsRequest().send().then([](auto answer) -> Result<Topics> {
      SLUICE_TRY(read_status_beside(answer.getFailure()));
      Topics topics;
      for (const auto topic : answer.getTopics()) topics.push_back(read_topic(topic));
      return topics;
    });
  });
}

Result<TopicInfo> ControlClient::describe_topic(std::string_view name, Duration timeout) {
  return loop_->call<TopicInfo>({on_topic("describing", name), timeout, true, {}}, [&](const Loop::Target& target) {
    auto request = target.session.describeTopicRequest();
    request.setName(std::string(name));
    return request.send().then([](auto answer) -> Result<TopicInfo> {
      const auto response = answer.getResponse();
      if (response.isFailure()) return fail(read_failure(response.getFailure()));
      return read_topic(response.getTopic());
    });
  });
}

Result<ProducerGrant> ControlClient::open_producer(std::string_view topic, std::string_view name, const GrantSink& sink,
                                                   Duration timeout) {
  const Budget budget(timeout.count() > 0 ? timeout : shared_->options.control_timeout);
  const Loop::CallOptions options{on_topic("opening a producer of", topic), budget.left(), true, {}};
  PinLease pin;
  std::vector<PartitionGrant> first;
  auto opened =
      loop_->call<ProducerGrant>(options, [&](const Loop::Target& target) -> kj::Promise<Result<ProducerGrant>> {
        // At each attempt: the memory that the first one took its pin from may have been replaced.
        if (!pin || pin.memory() != target.memory) {
          auto taken = PinLease::take(target.memory);
          if (!taken) return Result<ProducerGrant>(fail(std::move(taken).error()));
          pin = std::move(*taken);
        }
        auto request = target.session.openProducerRequest();
        auto open = request.initRequest();
        open.setTopic(std::string(topic));
        open.setName(std::string(name));
        open.setPin(pin.index());
        return request.send().then([&first](auto answer) -> kj::Promise<Result<ProducerGrant>> {
          const auto response = answer.getResponse();
          if (response.isFailure()) return Result<ProducerGrant>(fail(read_failure(response.getFailure())));
          auto fds = take_grants(response.getGrant().getPartitions());
          return fds.then(
              [&first, answer = kj::mv(answer)](Result<std::vector<PartitionGrant>> grants) -> Result<ProducerGrant> {
                if (!grants) return fail(std::move(grants).error());
                first = std::move(*grants);
                const auto given = answer.getResponse().getGrant();
                ProducerGrant grant;
                grant.id = ProducerId(given.getProducerId());
                grant.topic = TopicId(given.getTopicId());
                grant.partition_count = given.getPartitionCount();
                grant.last = read_last(given.getLast());
                return grant;
              });
        });
      });
  if (!opened) return fail(std::move(opened).error());
  ProducerGrant grant = std::move(*opened);
  grant.pin = std::move(pin);
  const std::uint64_t memory_generation = grant.pin.memory()->generation();
  auto have = static_cast<std::uint32_t>(first.size());
  Status status = deliver(std::move(first), sink, grant.partitions);
  while (status && have < grant.partition_count) {
    const std::uint32_t count = grant.partition_count - have;
    auto more = open_partitions_once(topic, Access::produce, have, count, memory_generation, budget.left());
    if (more && more->empty())
      more = fail(ErrorCode::conflict, options.doing + ": it has fewer partitions than it said");
    if (!more) {
      status = fail(std::move(more).error());
      break;
    }
    have += static_cast<std::uint32_t>(more->size());
    status = deliver(std::move(*more), sink, grant.partitions);
  }
  if (!status) {
    static_cast<void>(close_producer(grant, budget.left()));
    return fail(std::move(status).error());
  }
  return grant;
}

Status ControlClient::close_producer(const ProducerGrant& grant, Duration timeout) {
  return close_producer(grant.id, grant.pin.memory()->generation(), timeout);
}

Status ControlClient::close_producer(ProducerId id, std::uint64_t memory_generation, Duration timeout) {
  const Loop::CallOptions options{"closing producer " + std::to_string(id.value), timeout, true, memory_generation};
  return gone_is_closed(memory_generation, loop_->call<void>(options, [&](const Loop::Target& target) {
    auto request = target.session.closeProducerRequest();
    request.setProducerId(id.value);
    return request.send().then([](auto answer) { return read_done(answer.getDone()); });
  }));
}

Status ControlClient::gone_is_closed(std::uint64_t memory_generation, Status status) const {
  if (!status && status.error().code() == ErrorCode::conflict && memory_generation != generation()) return {};
  return status;
}

Result<ReaderGrant> ControlClient::open_reader(std::string_view topic, const std::vector<PartitionNumber>& partitions,
                                               bool cursors, const GrantSink& sink, Duration timeout) {
  const Budget budget(timeout.count() > 0 ? timeout : shared_->options.control_timeout);
  std::vector<PartitionNumber> wanted = partitions;
  if (wanted.empty() && cursors) {
    SLUICE_ASSIGN(const auto ranges, end_positions(topic, budget.left()));
    for (const PartitionRange& range : ranges) wanted.push_back(range.partition);
  }
  std::sort(wanted.begin(), wanted.end());
  std::vector<PartitionGrant> first;
  SLUICE_ASSIGN(ReaderGrant grant, open_reader_once(topic, wanted, cursors, first, budget.left()));
  if (wanted.empty()) {
    for (PartitionNumber i = 0; i < grant.partition_count; ++i) wanted.push_back(i);
  }
  std::size_t have = first.size();
  Status status = deliver(std::move(first), sink, grant.partitions);
  while (status && have < wanted.size()) {
    std::size_t run = 1;  // consecutive numbers come in one message
    while (have + run < wanted.size() && wanted[have + run] == wanted[have] + run) ++run;
    auto more = open_partitions_once(topic, Access::consume, wanted[have], static_cast<std::uint32_t>(run),
                                     grant.memory->generation(), budget.left());
    if (more && more->empty()) {
      more = fail(ErrorCode::not_found,
                  on_topic("opening a reader of", topic) + ": it has no partition " + std::to_string(wanted[have]));
    }
    if (!more) {
      status = fail(std::move(more).error());
      break;
    }
    have += more->size();
    status = deliver(std::move(*more), sink, grant.partitions);
  }
  if (!status) {
    static_cast<void>(close_reader(grant.id, grant.memory->generation(), budget.left()));
    return fail(std::move(status).error());
  }
  return grant;
}

Result<ReaderGrant> ControlClient::open_reader_once(std::string_view topic, const std::vector<PartitionNumber>& wanted,
                                                    bool cursors, std::vector<PartitionGrant>& first,
                                                    Duration timeout) {
  const Loop::CallOptions options{on_topic("opening a reader of", topic), timeout, true, {}};
  std::shared_ptr<SessionMemory> memory;
  std::vector<ReaderCursor> cells;
  auto opened = loop_->call<ReaderGrant>(options, [&](const Loop::Target& target) -> kj::Promise<Result<ReaderGrant>> {
    if (memory != target.memory) {  // the first attempt, or memory was replaced
      memory = target.memory;
      cells.clear();
      for (const PartitionNumber partition : wanted) {
        if (!cursors) break;
        auto cell = CursorLease::take(memory);
        if (!cell) return Result<ReaderGrant>(fail(std::move(cell).error()));
        cells.push_back({partition, std::move(*cell)});
      }
    }
    auto request = target.session.openReaderRequest();
    auto open = request.initRequest();
    open.setTopic(std::string(topic));
    auto list = open.initCursors(static_cast<unsigned>(wanted.size()));
    for (unsigned i = 0; i < wanted.size(); ++i) {
      list[i].setPartition(wanted[i]);
      list[i].setCell(cursors ? cells[i].cell.index() : protocol::NO_CURSOR);
    }
    return request.send().then([&first](auto answer) -> kj::Promise<Result<ReaderGrant>> {
      const auto response = answer.getResponse();
      if (response.isFailure()) return Result<ReaderGrant>(fail(read_failure(response.getFailure())));
      auto fds = take_grants(response.getGrant().getPartitions());
      return fds.then(
          [&first, answer = kj::mv(answer)](Result<std::vector<PartitionGrant>> grants) -> Result<ReaderGrant> {
            if (!grants) return fail(std::move(grants).error());
            first = std::move(*grants);
            const auto given = answer.getResponse().getGrant();
            ReaderGrant grant;
            grant.id = given.getReaderId();
            grant.topic = TopicId(given.getTopicId());
            grant.partition_count = given.getPartitionCount();
            grant.ranges = read_ranges(given.getRanges());
            return grant;
          });
    });
  });
  if (!opened) return fail(std::move(opened).error());
  ReaderGrant grant = std::move(*opened);
  grant.memory = std::move(memory);
  grant.cursors = std::move(cells);
  return grant;
}

Status ControlClient::close_reader(std::uint64_t id, std::uint64_t memory_generation, Duration timeout) {
  const Loop::CallOptions options{"closing reader " + std::to_string(id), timeout, true, memory_generation};
  return gone_is_closed(memory_generation, loop_->call<void>(options, [&](const Loop::Target& target) {
    auto request = target.session.closeReaderRequest();
    request.setReaderId(id);
    return request.send().then([](auto answer) { return read_done(answer.getDone()); });
  }));
}

Result<std::vector<PartitionGrant>> ControlClient::open_partitions_once(std::string_view topic, Access access,
                                                                        PartitionNumber first, std::uint32_t count,
                                                                        std::uint64_t memory_generation,
                                                                        Duration timeout) {
  using Grants = std::vector<PartitionGrant>;
  const Loop::CallOptions options{on_topic("opening partitions of", topic), timeout, true, memory_generation};
  return loop_->call<Grants>(options, [&](const Loop::Target& target) {
    auto request = target.session.openPartitionsRequest();
    request.setTopic(std::string(topic));
    request.setAccess(access == Access::produce ? protocol::Access::PRODUCE : protocol::Access::CONSUME);
    request.setFirst(first);
    request.setCount(std::min(count, protocol::GRANT_PARTITIONS_MAX));
    return request.send().then([](auto answer) -> kj::Promise<Result<Grants>> {
      const auto response = answer.getResponse();
      if (response.isFailure()) return Result<Grants>(fail(read_failure(response.getFailure())));
      return take_grants(response.getPartitions()).attach(kj::mv(answer));
    });
  });
}

Result<std::vector<PartitionGrant>> ControlClient::open_partitions(std::string_view topic, Access access,
                                                                   PartitionNumber first, const GrantSink& sink,
                                                                   Duration timeout) {
  const Budget budget(timeout.count() > 0 ? timeout : shared_->options.control_timeout);
  const std::uint64_t memory_generation = generation();
  std::vector<PartitionGrant> kept;
  for (PartitionNumber next = first;;) {
    auto batch =
        open_partitions_once(topic, access, next, protocol::GRANT_PARTITIONS_MAX, memory_generation, budget.left());
    if (!batch) return fail(std::move(batch).error());
    if (batch->empty()) return kept;
    const bool last = batch->size() < protocol::GRANT_PARTITIONS_MAX;
    next += static_cast<PartitionNumber>(batch->size());
    SLUICE_TRY(deliver(std::move(*batch), sink, kept));
    if (last) return kept;
  }
}

Result<LocateAnswer> ControlClient::locate(TopicId topic, PartitionNumber partition, Position position, bool damaged,
                                           Duration timeout) {
  const Loop::CallOptions options{"finding the log file of topic " + std::to_string(topic.value) + ", partition " +
                                      std::to_string(partition) + ", position " + std::to_string(position.value),
                                  timeout,
                                  true,
                                  {}};
  return loop_->call<LocateAnswer>(options, [&](const Loop::Target& target) {
    auto request = target.session.locateRequest();
    request.setTopicId(topic.value);
    request.setPartition(partition);
    request.setPosition(position.value);
    request.setDamaged(damaged);
    return request.send().then([](auto answer) -> kj::Promise<Result<LocateAnswer>> {
      const auto response = answer.getResponse();
      LocateAnswer result;
      switch (response.which()) {
        case protocol::LocateResponse::FAILURE: return Result<LocateAnswer>(fail(read_failure(response.getFailure())));
        case protocol::LocateResponse::ABOVE: break;
        case protocol::LocateResponse::SKIP:
          result.kind = LocateAnswer::Kind::skip;
          result.position = Position(response.getSkip());
          break;
        case protocol::LocateResponse::TRIMMED:
          result.kind = LocateAnswer::Kind::trimmed;
          result.position = Position(response.getTrimmed());
          break;
        case protocol::LocateResponse::FILE: {
          const auto file = response.getFile();
          const Position base(file.getBase()), data_end(file.getDataEnd());
          auto fd = take_descriptor(file.getFile(), "a log file");
          return fd.then([base, data_end, answer = kj::mv(answer)](Result<UniqueFd> received) -> Result<LocateAnswer> {
            if (!received) return fail(std::move(received).error());
            return LocateAnswer{LocateAnswer::Kind::file, Position(), std::move(*received), base, data_end};
          });
        }
      }
      return Result<LocateAnswer>(std::move(result));
    });
  });
}

Result<Position> ControlClient::seek_time(TopicId topic, PartitionNumber partition, std::uint64_t time_ns,
                                          Duration timeout) {
  const Loop::CallOptions options{"seeking topic " + std::to_string(topic.value) + " by time", timeout, true, {}};
  return loop_->call<Position>(options, [&](const Loop::Target& target) {
    auto request = target.session.seekTimeRequest();
    request.setTopicId(topic.value);
    request.setPartition(partition);
    request.setTimeNs(time_ns);
    return request.send().then([](auto answer) -> Result<Position> {
      const auto response = answer.getResponse();
      if (response.isFailure()) return fail(read_failure(response.getFailure()));
      return Position(response.getPosition());
    });
  });
}

Result<std::vector<PartitionRange>> ControlClient::end_positions(std::string_view topic, Duration timeout) {
  using Ranges = std::vector<PartitionRange>;
  return loop_->call<Ranges>({on_topic("asking for the ends of", topic), timeout, true, {}},
                             [&](const Loop::Target& target) {
                               auto request = target.session.endPositionsRequest();
                               request.setTopic(std::string(topic));
                               return request.send().then([](auto answer) -> Result<Ranges> {
                                 const auto response = answer.getResponse();
                                 if (response.isFailure()) return fail(read_failure(response.getFailure()));
                                 return read_ranges(response.getRanges());
                               });
                             });
}

Status ControlClient::report_sequences(TopicId topic, const std::vector<SequenceReport>& reports, Duration timeout) {
  const Loop::CallOptions options{"reporting what was sent to topic " + std::to_string(topic.value), timeout, true, {}};
  for (std::size_t start = 0; start < reports.size(); start += kReportsPerCallMax) {
    const std::size_t count = std::min(kReportsPerCallMax, reports.size() - start);
    SLUICE_TRY(loop_->call<void>(options, [&](const Loop::Target& target) {
      auto request = target.session.reportSequencesRequest();
      request.setTopicId(topic.value);
      auto list = request.initReports(static_cast<unsigned>(count));
      for (unsigned i = 0; i < count; ++i) {
        const SequenceReport& report = reports[start + i];
        list[i].setPartition(report.partition);
        list[i].setProducerId(report.producer.value);
        list[i].setSequence(report.sequence.value);
      }
      return request.send().then([](auto answer) { return read_done(answer.getDone()); });
    }));
  }
  return {};
}

Result<AuditReport> ControlClient::audit(std::string_view topic, Duration timeout) {
  return loop_->call<AuditReport>({on_topic("auditing", topic), timeout, true, {}}, [&](const Loop::Target& target) {
    auto request = target.session.auditRequest();
    request.setTopic(std::string(topic));
    return request.send().then([](auto answer) -> Result<AuditReport> {
      const auto response = answer.getResponse();
      if (response.isFailure()) return fail(read_failure(response.getFailure()));
      return read_audit(response.getReport());
    });
  });
}

Result<BusStatus> ControlClient::status(Duration timeout) {
  return loop_->call<BusStatus>(
      {"asking the daemon for its status", timeout, true, {}}, [](const Loop::Target& target) {
        return target.session.statusRequest().send().then([](auto answer) -> Result<BusStatus> {
          SLUICE_TRY(read_status_beside(answer.getFailure()));
          return read_status(answer.getStatus());
        });
      });
}

Result<std::vector<DoctorCheck>> ControlClient::doctor(bool quick, Duration timeout) {
  using Checks = std::vector<DoctorCheck>;
  return loop_->call<Checks>({"having the daemon check itself", timeout, true, {}}, [&](const Loop::Target& target) {
    auto request = target.session.doctorRequest();
    request.setQuick(quick);
    return request.send().then([](auto answer) -> Result<Checks> {
      SLUICE_TRY(read_status_beside(answer.getFailure()));
      return read_checks(answer.getChecks());
    });
  });
}

Result<std::vector<SessionInfo>> ControlClient::list_sessions(Duration timeout) {
  using Sessions = std::vector<SessionInfo>;
  return loop_->call<Sessions>({"listing sessions", timeout, true, {}}, [](const Loop::Target& target) {
    return target.session.listSessionsRequest().send().then([](auto answer) -> Result<Sessions> {
      SLUICE_TRY(read_status_beside(answer.getFailure()));
      return read_sessions(answer.getSessions());
    });
  });
}

Status ControlClient::kill_session(std::uint64_t id, Duration timeout) {
  return loop_->call<void>({"ending session " + std::to_string(id), timeout, false, {}},
                           [&](const Loop::Target& target) {
                             auto request = target.session.killSessionRequest();
                             request.setSessionId(id);
                             return request.send().then([](auto answer) { return read_done(answer.getDone()); });
                           });
}

Result<std::string> ControlClient::config(Duration timeout) {
  return loop_->call<std::string>(
      {"asking for the daemon's configuration", timeout, true, {}}, [](const Loop::Target& target) {
        return target.session.configRequest().send().then([](auto answer) -> Result<std::string> {
          SLUICE_TRY(read_status_beside(answer.getFailure()));
          const auto toml = answer.getToml();
          return std::string(toml.cStr(), toml.size());
        });
      });
}

}  // namespace sluice::internal
