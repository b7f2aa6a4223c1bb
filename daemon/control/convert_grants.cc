#include "daemon/control/convert_grants.h"

#include <algorithm>
#include <utility>

#include "daemon/control/convert.h"

namespace sluice::control {
namespace {

static_assert(session::kGrantPartitionsMax == protocol::GRANT_PARTITIONS_MAX);
static_assert(session::kNoCursor == protocol::NO_CURSOR);
constexpr std::size_t kDescriptorsPerPartition = 3;

protocol::Descriptor::Client carry(Connection& connection, UniqueFd fd) {
  return kj::heap<DescriptorServer>(connection, std::move(fd));
}

// Whether these grants fit: a message's descriptors are limited by the kernel, a connection's by its quota.
Status check_grants(const Connection& connection, const std::vector<session::PartitionGrant>& grants) {
  if (grants.size() > session::kGrantPartitionsMax) {
    return fail(ErrorCode::internal, "granting partitions: " + std::to_string(grants.size()) + " in one message");
  }
  return DescriptorServer::check_quota(connection, grants.size() * kDescriptorsPerPartition);
}

void write_grants(capnp::List<protocol::PartitionGrant>::Builder out, Connection& connection,
                  std::vector<session::PartitionGrant>&& grants) {
  for (unsigned i = 0; i < grants.size(); ++i) {
    out[i].setPartition(grants[i].partition);
    out[i].setControl(carry(connection, std::move(grants[i].control)));
    out[i].setLog(carry(connection, std::move(grants[i].log)));
    out[i].setBell(carry(connection, std::move(grants[i].bell)));
  }
}

}  // namespace

void write_welcome(protocol::Welcome::Builder out, Connection& connection, session::Welcome welcome) {
  out.setSessionId(welcome.session.value);
  out.setIncarnation(welcome.incarnation.value);
  out.setResumed(welcome.resumed);
  out.setToken(kj::arrayPtr(reinterpret_cast<const kj::byte*>(welcome.token.data()), welcome.token.size()));
  if (welcome.session_region) out.setSessionRegion(carry(connection, std::move(welcome.session_region)));
  if (welcome.wake) out.setWake(carry(connection, std::move(welcome.wake)));
  out.setDaemonVersion(welcome.daemon_version);
  out.setDaemonPid(welcome.daemon_pid);
  out.setMemoryKept(welcome.memory_kept);
}

void write_producer_grant(protocol::OpenProducerResponse::Builder out, Connection& connection,
                          Result<session::ProducerGrant> answer) {
  if (answer) {
    if (const Status quota = check_grants(connection, answer->partitions); !quota) answer = fail(quota.error());
  }
  if (!answer) return write_failure(out.initFailure(), answer.error());
  auto grant = out.initGrant();
  grant.setProducerId(answer->id.value);
  grant.setTopicId(answer->topic.value);
  grant.setPartitionCount(answer->partition_count);
  auto last = grant.initLast(static_cast<unsigned>(answer->last.size()));
  for (unsigned i = 0; i < answer->last.size(); ++i) {
    const session::LastSent& sent = answer->last[i];
    last[i].setPartition(sent.partition);
    last[i].setSequence(sent.sequence.value);
    last[i].setBookmark(kj::arrayPtr(reinterpret_cast<const kj::byte*>(sent.bookmark.data()), sent.bookmark.size()));
  }
  write_grants(grant.initPartitions(static_cast<unsigned>(answer->partitions.size())), connection,
               std::move(answer->partitions));
}

void write_reader_grant(protocol::OpenReaderResponse::Builder out, Connection& connection,
                        Result<session::ReaderGrant> answer) {
  if (answer) {
    if (const Status quota = check_grants(connection, answer->partitions); !quota) answer = fail(quota.error());
  }
  if (!answer) return write_failure(out.initFailure(), answer.error());
  auto grant = out.initGrant();
  grant.setReaderId(answer->id);
  grant.setTopicId(answer->topic.value);
  grant.setPartitionCount(answer->partition_count);
  write_ranges(grant.initRanges(static_cast<unsigned>(answer->ranges.size())), answer->ranges);
  write_grants(grant.initPartitions(static_cast<unsigned>(answer->partitions.size())), connection,
               std::move(answer->partitions));
}

void write_partitions(protocol::PartitionsResponse::Builder out, Connection& connection,
                      Result<std::vector<session::PartitionGrant>> answer) {
  if (answer) {
    if (const Status quota = check_grants(connection, *answer); !quota) answer = fail(quota.error());
  }
  if (!answer) return write_failure(out.initFailure(), answer.error());
  const auto count = static_cast<unsigned>(answer->size());
  write_grants(out.initPartitions(count), connection, std::move(*answer));
}

void write_locate(protocol::LocateResponse::Builder out, Connection& connection, Result<session::LocateAnswer> answer) {
  if (answer) {
    if (const Status quota = DescriptorServer::check_quota(connection, 1); !quota) answer = fail(quota.error());
  }
  if (!answer) return write_failure(out.initFailure(), answer.error());
  switch (answer->kind) {
    case session::LocateAnswer::Kind::file: {
      auto file = out.initFile();
      file.setFile(carry(connection, std::move(answer->file)));
      file.setBase(answer->base.value);
      file.setDataEnd(answer->data_end.value);
      return;
    }
    case session::LocateAnswer::Kind::skip: return out.setSkip(answer->position.value);
    case session::LocateAnswer::Kind::trimmed: return out.setTrimmed(answer->position.value);
    case session::LocateAnswer::Kind::above: return out.setAbove();
  }
}

}  // namespace sluice::control
