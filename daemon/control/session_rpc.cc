#include "daemon/control/session_rpc.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "daemon/control/bus_call.h"
#include "daemon/control/convert.h"
#include "daemon/control/convert_grants.h"
#include "daemon/control/transaction_rpc.h"
#include "shm/base/limits.h"
#include "shm/layout/regions.h"

namespace sluice::control {
namespace {

using session::BusInterface;

class SessionServer final : public TransactionServer {
 public:
  using TransactionServer::TransactionServer;

  kj::Promise<void> createTopic(CreateTopicContext context) override {
    auto request = read_request(context.getParams().getConfig());
    return status_call(context, request, [](BusInterface& bus, SessionId id, core::TopicRequest& value) {
      return bus.create_topic(id, std::move(value));
    });
  }

  kj::Promise<void> alterTopic(AlterTopicContext context) override {
    auto name = read_text(context.getParams().getName(), kTopicNameSizeMax, "topic name");
    auto change = read_change(context.getParams().getChange());
    if (!name) return refuse_done(context, name.error());
    if (!change) return refuse_done(context, change.error());
    Result<std::pair<std::string, core::TopicChange>> both(std::make_pair(std::move(*name), *change));
    return status_call(context, both, [](BusInterface& bus, SessionId id, auto& value) {
      return bus.alter_topic(id, value.first, value.second);
    });
  }

  kj::Promise<void> deleteTopic(DeleteTopicContext context) override {
    auto name = read_text(context.getParams().getName(), kTopicNameSizeMax, "topic name");
    return status_call(context, name,
                       [](BusInterface& bus, SessionId id, std::string& value) { return bus.delete_topic(id, value); });
  }

  kj::Promise<void> recoverTopic(RecoverTopicContext context) override {
    auto name = read_text(context.getParams().getName(), kTopicNameSizeMax, "topic name");
    if (!name) return refuse_done(context, name.error());
    std::optional<PartitionNumber> partition;
    if (!context.getParams().getAll()) partition = context.getParams().getPartition();
    Result<std::pair<std::string, std::optional<PartitionNumber>>> both(std::make_pair(std::move(*name), partition));
    return status_call(context, both, [](BusInterface& bus, SessionId id, auto& value) {
      return bus.recover_topic(id, value.first, value.second);
    });
  }

  kj::Promise<void> scrubTopic(ScrubTopicContext context) override {
    struct Request {
      std::string name;
      std::optional<PartitionNumber> partition;
      bool start;
    };
    const auto params = context.getParams();
    auto name = read_text(params.getName(), kTopicNameSizeMax, "topic name");
    Result<Request> request;
    if (name) {
      request = Request{std::move(*name), {}, params.getStart()};
      if (!params.getAll()) request->partition = params.getPartition();
    } else {
      request = fail(name.error());
    }
    return union_call<session::ScrubReport>(
        context, request,
        [](BusInterface& bus, SessionId id, Request& value) {
          return bus.scrub_topic(id, value.name, value.partition, value.start);
        },
        [](auto response, const session::ScrubReport& report) { write_scrub(response.initReport(), report); });
  }

  kj::Promise<void> listTopics(ListTopicsContext context) override {
    return plain_call<std::vector<session::TopicInfo>>(
        context, [](BusInterface& bus, SessionId id) { return bus.list_topics(id); },
        [](auto results, const auto& topics) {
          auto list = results.initTopics(static_cast<unsigned>(topics.size()));
          for (unsigned i = 0; i < topics.size(); ++i) write_topic(list[i], topics[i]);
        });
  }

  kj::Promise<void> describeTopic(DescribeTopicContext context) override {
    auto name = read_text(context.getParams().getName(), kTopicNameSizeMax, "topic name");
    return union_call<session::TopicInfo>(
        context, name,
        [](BusInterface& bus, SessionId id, std::string& value) { return bus.describe_topic(id, value); },
        [](auto response, const session::TopicInfo& topic) { write_topic(response.initTopic(), topic); });
  }

  kj::Promise<void> openProducer(OpenProducerContext context) override {
    auto request = read_open_producer(context.getParams().getRequest());
    return grant_call<session::ProducerGrant>(
        context, request,
        [](BusInterface& bus, SessionId id, auto& value) { return bus.open_producer(id, std::move(value)); },
        write_producer_grant);
  }

  kj::Promise<void> closeProducer(CloseProducerContext context) override {
    Result<ProducerId> producer(context.getParams().getProducerId());
    return status_call(context, producer, [](BusInterface& bus, SessionId id, ProducerId& value) {
      return bus.close_producer(id, value);
    });
  }

  kj::Promise<void> openReader(OpenReaderContext context) override {
    auto request = read_open_reader(context.getParams().getRequest());
    return grant_call<session::ReaderGrant>(
        context, request,
        [](BusInterface& bus, SessionId id, auto& value) { return bus.open_reader(id, std::move(value)); },
        write_reader_grant);
  }

  kj::Promise<void> closeReader(CloseReaderContext context) override {
    Result<std::uint64_t> reader(context.getParams().getReaderId());
    return status_call(context, reader, [](BusInterface& bus, SessionId id, std::uint64_t& value) {
      return bus.close_reader(id, value);
    });
  }

  kj::Promise<void> openPartitions(OpenPartitionsContext context) override {
    struct Request {
      std::string topic;
      session::Access access;
      PartitionNumber first;
      std::uint32_t count;
    };
    const auto params = context.getParams();
    auto topic = read_text(params.getTopic(), kTopicNameSizeMax, "topic name");
    auto access = read_access(params.getAccess());
    const std::uint32_t wanted = params.getCount() == 0 ? session::kGrantPartitionsMax : params.getCount();
    Result<Request> request;
    if (!topic) {
      request = fail(topic.error());
    } else if (!access) {
      request = fail(access.error());
    } else {
      request = Request{std::move(*topic), *access, params.getFirst(), std::min(wanted, session::kGrantPartitionsMax)};
    }
    return grant_call<std::vector<session::PartitionGrant>>(
        context, request,
        [](BusInterface& bus, SessionId id, Request& value) {
          return bus.open_partitions(id, value.topic, value.access, value.first, value.count);
        },
        write_partitions);
  }

  kj::Promise<void> locate(LocateContext context) override {
    struct Place {
      TopicId topic;
      PartitionNumber partition;
      Position position;
      bool damaged;
    };
    const auto params = context.getParams();
    Result<Place> place(Place{TopicId(params.getTopicId()), params.getPartition(), Position(params.getPosition()),
                              params.getDamaged()});
    return grant_call<session::LocateAnswer>(
        context, place,
        [](BusInterface& bus, SessionId id, Place& value) {
          return bus.locate(id, value.topic, value.partition, value.position, value.damaged);
        },
        write_locate);
  }

  kj::Promise<void> seekTime(SeekTimeContext context) override {
    struct Place {
      TopicId topic;
      PartitionNumber partition;
      std::uint64_t time_ns;
    };
    const auto params = context.getParams();
    Result<Place> place(Place{TopicId(params.getTopicId()), params.getPartition(), params.getTimeNs()});
    return union_call<Position>(
        context, place,
        [](BusInterface& bus, SessionId id, Place& value) {
          return bus.seek_time(id, value.topic, value.partition, value.time_ns);
        },
        [](auto response, const Position& position) { response.setPosition(position.value); });
  }

  kj::Promise<void> endPositions(EndPositionsContext context) override {
    auto name = read_text(context.getParams().getTopic(), kTopicNameSizeMax, "topic name");
    return union_call<std::vector<session::PartitionRange>>(
        context, name, [](BusInterface& bus, SessionId id, std::string& value) { return bus.end_positions(id, value); },
        [](auto response, const auto& ranges) {
          write_ranges(response.initRanges(static_cast<unsigned>(ranges.size())), ranges);
        });
  }

  kj::Promise<void> reportSequences(ReportSequencesContext context) override {
    auto reports = read_reports(context.getParams().getReports());
    const TopicId topic(context.getParams().getTopicId());
    return status_call(context, reports, [topic](BusInterface& bus, SessionId id, auto& value) {
      return bus.report_sequences(id, topic, std::move(value));
    });
  }

  kj::Promise<void> audit(AuditContext context) override {
    auto name = read_text(context.getParams().getTopic(), kTopicNameSizeMax, "topic name");
    return union_call<session::AuditReport>(
        context, name, [](BusInterface& bus, SessionId id, std::string& value) { return bus.audit(id, value); },
        [](auto response, const session::AuditReport& report) { write_audit(response.initReport(), report); });
  }

  kj::Promise<void> status(StatusContext context) override {
    return plain_call<session::BusStatus>(
        context, [](BusInterface& bus, SessionId id) { return bus.status(id); },
        [](auto results, const session::BusStatus& status) { write_status(results.initStatus(), status); });
  }

  kj::Promise<void> doctor(DoctorContext context) override {
    const bool quick = context.getParams().getQuick();
    return plain_call<std::vector<session::DoctorCheck>>(
        context, [quick](BusInterface& bus, SessionId id) { return bus.doctor(id, quick); },
        [](auto results, const auto& checks) {
          auto list = results.initChecks(static_cast<unsigned>(checks.size()));
          for (unsigned i = 0; i < checks.size(); ++i) write_check(list[i], checks[i]);
        });
  }

  kj::Promise<void> listSessions(ListSessionsContext context) override {
    return plain_call<std::vector<session::SessionInfo>>(
        context, [](BusInterface& bus, SessionId id) { return bus.list_sessions(id); },
        [](auto results, const auto& sessions) {
          auto list = results.initSessions(static_cast<unsigned>(sessions.size()));
          for (unsigned i = 0; i < sessions.size(); ++i) write_session(list[i], sessions[i]);
        });
  }

  kj::Promise<void> killSession(KillSessionContext context) override {
    const SessionId victim(context.getParams().getSessionId());
    Result<SessionId> request(victim);
    return status_call(
        context, request, [](BusInterface& bus, SessionId id, SessionId& value) { return bus.kill_session(id, value); },
        [this, victim](const Status& answer) {
          if (answer) host_.ended(victim);
        });
  }

  kj::Promise<void> config(ConfigContext context) override {
    return plain_call<std::string>(
        context, [](BusInterface& bus, SessionId id) { return bus.config(id); },
        [](auto results, const std::string& toml) { results.setToml(toml); });
  }
};

// A version that this daemon does not speak, or nothing.
Status check_versions(protocol::Hello::Reader request) {
  if (request.getProtocolVersion() != protocol::PROTOCOL_VERSION) {
    return fail(ErrorCode::version,
                "attaching a client: it speaks version " + std::to_string(request.getProtocolVersion()) +
                    " of the control protocol, this daemon " + std::to_string(protocol::PROTOCOL_VERSION) +
                    "; install the same version of both");
  }
  if (request.getLayoutVersion() != layout::kRegionVersion) {
    return fail(ErrorCode::version, "attaching a client: it knows version " +
                                        std::to_string(request.getLayoutVersion()) +
                                        " of the memory layout, this daemon writes " +
                                        std::to_string(layout::kRegionVersion) + "; install the same version of both");
  }
  return {};
}

class BusServer final : public protocol::Bus::Server {
 public:
  BusServer(Host& host, Connection& connection) : host_(host), connection_(kj::addRef(connection)) {}

  kj::Promise<void> hello(HelloContext context) override {
    const auto in = context.getParams().getRequest();
    if (const Status refused = check(in); !refused) {
      write_failure(context.getResults().initResponse().initFailure(), refused.error());
      return kj::READY_NOW;
    }
    connection_->set_said_hello();
    session::HelloRequest request;
    request.peer = connection_->peer();
    request.client_name = read_display_text(in.getClientName(), kProducerNameSizeMax);
    request.membarrier = in.getMembarrier();
    request.resume_token.assign(in.getResume().asChars().begin(), in.getResume().size());
    return on_bus<Result<session::Welcome>>(
               host_.poster(),
               [request = std::move(request)](BusInterface& bus) mutable { return bus.attach(std::move(request)); })
        .then([this, context](Result<session::Welcome> answer) mutable -> kj::Promise<void> {
          // From here on its death is seen, whether or not it ever hears the answer.
          if (answer) host_.attached(*connection_, answer->session);
          if (!answer || !answer->kept) return welcome(context, std::move(answer));
          UniqueFd kept = std::move(answer->kept);
          return host_.readable(std::move(kept)).then([this, context, answer = std::move(answer)]() mutable {
            welcome(context, std::move(answer));
          });
        });
  }

 private:
  Status check(protocol::Hello::Reader in) const {
    if (connection_->said_hello()) {
      return fail(ErrorCode::invalid, "attaching a client: it has said hello on this connection already");
    }
    SLUICE_TRY(check_versions(in));
    if (in.getResume().size() > kResumeTokenSizeMax) {
      return fail(ErrorCode::invalid, "attaching a client: its resume token is too long");
    }
    return host_.policy().may_connect(connection_->peer());
  }

  kj::Promise<void> welcome(HelloContext& context, Result<session::Welcome> answer) {
    auto response = context.getResults().initResponse();
    if (!answer) {
      write_failure(response.initFailure(), answer.error());
      return kj::READY_NOW;
    }
    const SessionId id = answer->session;
    auto out = response.initWelcome();
    write_welcome(out, *connection_, std::move(*answer));
    out.setSession(kj::heap<SessionServer>(host_, *connection_, id));
    return kj::READY_NOW;
  }

  static constexpr std::size_t kResumeTokenSizeMax = 256;

  Host& host_;
  kj::Own<Connection> connection_;
};

}  // namespace

protocol::Bus::Client make_bus_capability(Host& host, Connection& connection) {
  return kj::heap<BusServer>(host, connection);
}

}  // namespace sluice::control
