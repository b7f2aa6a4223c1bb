// Bus: sessions, producers, readers: who is attached, and what becomes of them.

#include <unistd.h>

#include <algorithm>
#include <utility>

#include <spdlog/spdlog.h>

#include "daemon/bus/bus.h"
#include "shm/base/clock.h"
#include "shm/region/memfd.h"
#include "shm/ring/bell.h"

namespace sluice::bus {
namespace {
constexpr std::uint32_t kProducerIdLease = 4096;  // ids per store commit
}  // namespace

// ---- sessions

Result<session::Session*> Bus::live_session(SessionId id) const {
  session::Session* session = sessions_->find(id);
  if (session == nullptr || session->revoked())
    return fail(ErrorCode::revoked, "session " + std::to_string(id.value) + " was ended; connect again");
  return session;
}

Result<session::Welcome> Bus::attach(session::HelloRequest request) {
  SLUICE_TRY(settings_.policy.may_connect(request.peer));
  if (stopping_) return fail(ErrorCode::no_daemon, "the daemon is stopping; connect again once it has restarted");
  session::Welcome welcome;
  welcome.incarnation = incarnation_;
  welcome.daemon_version = settings_.version;
  welcome.daemon_pid = ::getpid();
  welcome.memory_kept = keeper_ != nullptr;
  SLUICE_ASSIGN(welcome.wake, region::duplicate(wake_fd_, "the daemon's eventfd"));
  session::Session* session = nullptr;
  if (!request.resume_token.empty()) session = sessions_->find_resumable(request.resume_token, request.peer);
  if (session != nullptr) {
    welcome.resumed = true;
    session->set_connected(true);
    hung_up_at_ns_.erase(session->id());
  } else {
    if (sessions_->size() >= settings_.sessions_max)
      return fail(ErrorCode::quota, "attaching: the daemon's limit of " + std::to_string(settings_.sessions_max) +
                                        " sessions is reached");
    SLUICE_ASSIGN(session, sessions_->create(std::move(request.peer), request.client_name, request.membarrier));
    auto region = session->hand_out();
    if (!region) {
      sessions_->remove(session->id());
      return fail(region.error());
    }
    welcome.session_region = std::move(*region);
    auto kept = keep_session(*session);
    if (!kept) {
      drop_session(session->id());
      sessions_->remove(session->id());
      return fail(kept.error());
    }
    welcome.kept = std::move(*kept);
  }
  welcome.session = session->id();
  welcome.token = session->token();
  return welcome;
}

bool Bus::on_peer(SessionId id, session::PeerEvent event) {
  session::Session* session = sessions_->find(id);
  if (session == nullptr) return true;
  if (event == session::PeerEvent::hung_up) {
    session->set_connected(false);
    hung_up_at_ns_[id] = monotonic_ns();
  }
  auto dead = session->is_dead();
  if (!dead) {
    spdlog::error("session lock cannot be tried session={} reason={}", id.value, dead.error().message());
    return false;
  }
  if (!*dead) return false;
  repair(*session);
  return true;
}

// In this order: claims, then pins, and only then the ids (tests/model, scenario DEATH).
void Bus::repair(session::Session& session) {
  const std::uint64_t began = monotonic_ns();
  const auto hung_up = hung_up_at_ns_.find(session.id());
  end_producers(session);
  session.clear_pins();
  delivery_.session_ended(session.id(), true);
  transactions_.session_ended(session.id(), monotonic_ns());
  const std::uint64_t took = monotonic_ns() - (hung_up == hung_up_at_ns_.end() ? began : hung_up->second);
  if (!session.producers().empty()) {
    repair_ns_last_ = took;
    repair_ns_max_ = std::max(repair_ns_max_, took);
  }
  spdlog::info("session ended session={} pid={} producers={} repair_us={}", session.id().value, session.peer().pid,
               session.producers().size(), took / 1000);
  if (hung_up != hung_up_at_ns_.end()) hung_up_at_ns_.erase(hung_up);
  drop_session(session.id());
  sessions_->remove(session.id());
}

void Bus::end_producers(const session::Session& session) {
  std::vector<TopicId> topics;
  for (const auto& [id, entry] : session.producers()) topics.push_back(entry.topic);
  std::sort(topics.begin(), topics.end());
  topics.erase(std::unique(topics.begin(), topics.end()), topics.end());
  const auto is_gone = [&](ProducerId producer) { return session.find_producer(producer) != nullptr; };
  for (const TopicId topic : topics) {
    const auto found = by_id_.find(topic);
    if (found == by_id_.end()) continue;
    for (PartitionUnit& unit : found->second->partitions()) {
      unit.partition->sweep(is_gone);
      for (const auto& [id, entry] : session.producers())
        if (entry.topic == topic) unit.note_ended(id);
    }
  }
  for (const auto& [id, entry] : session.producers()) producers_.erase(id);
}

// One that its client has closed, or replaced on the same pin.
void Bus::end_producer(ProducerId id) {
  const auto live = producers_.find(id);
  if (live == producers_.end()) return;
  if (const auto topic = by_id_.find(live->second.topic); topic != by_id_.end())
    for (PartitionUnit& unit : topic->second->partitions()) {
      unit.partition->sweep([&](ProducerId producer) { return producer == id; });
      unit.note_ended(id);
    }
  producers_.erase(live);
}

Status Bus::kill_session(SessionId session_id, SessionId victim_id) {
  SLUICE_ASSIGN(session::Session * session, live_session(session_id));
  session::Session* victim = sessions_->find(victim_id);
  if (victim == nullptr) return fail(ErrorCode::not_found, "no session has the id " + std::to_string(victim_id.value));
  if (victim->peer().uid != session->peer().uid)
    SLUICE_TRY(require_operator(*session, "ending session " + std::to_string(victim_id.value)));
  victim->revoke();
  delivery_.session_ended(victim_id, false);
  transactions_.session_ended(victim_id, monotonic_ns());
  return note(*victim);
}

bool Bus::is_producer_alive(ProducerId producer) const { return producers_.count(producer) != 0; }

std::optional<Position> Bus::reader_cursor_min(std::uint32_t handle) const {
  const std::optional<Position> readers = sessions_->min_cursor(handle);
  const spill::PartitionIdentity& identity = by_handle_.at(handle)->identity();
  const std::optional<Position> groups = delivery_.cursor_min(identity.topic, identity.partition);
  return readers && groups ? std::min(*readers, *groups) : groups ? groups : readers;
}

// ---- producers

Status Bus::lease_producer_ids() {
  SLUICE_ASSIGN(next_producer_, store_.lease_producer_ids(kProducerIdLease));
  producer_ids_left_ = kProducerIdLease;
  return {};
}

Result<ProducerId> Bus::next_producer_id() {
  if (producer_ids_left_ == 0) SLUICE_TRY(lease_producer_ids());
  const ProducerId id = next_producer_;
  next_producer_ = ProducerId(next_producer_.value + 1);
  --producer_ids_left_;
  return id;
}

Result<session::ProducerGrant> Bus::open_producer(SessionId session_id, session::OpenProducer request) {
  SLUICE_ASSIGN(session::Session * session, live_session(session_id));
  SLUICE_ASSIGN(Topic * topic, find_topic(request.topic));
  SLUICE_TRY(topic->publishers().check(session->peer(), settings_.policy, "publishing to", topic->name()));
  if (stopping_) return fail(ErrorCode::no_daemon, "the daemon is stopping; try again once it has restarted");
  session::ProducerGrant grant;
  SLUICE_ASSIGN(grant.id, next_producer_id());
  grant.topic = topic->id();
  grant.partition_count = static_cast<std::uint32_t>(topic->partitions().size());
  SLUICE_ASSIGN(grant.partitions, grants(*topic, session::Access::produce, 0, session::kGrantPartitionsMax));
  if (auto replaced = session->add_producer({grant.id, topic->id(), request.name, request.pin}))
    end_producer(replaced->id);
  producers_[grant.id] = {session_id, topic->id()};
  Status done = note(*session);
  if (done && !request.name.empty()) done = take_over_name(*topic, request.name, grant.id, grant);
  if (!done) {
    session->remove_producer(grant.id);
    producers_.erase(grant.id);
    static_cast<void>(note(*session));  // a note of one producer more does no harm
    return fail(done.error());
  }
  return grant;
}

// The name's sequences go on under the new id, and the old holder is fenced if it may still write.
Status Bus::take_over_name(Topic& topic, const std::string& name, ProducerId id, session::ProducerGrant& grant) {
  const auto holder = topic.holders().find(name);
  const ProducerId old = holder == topic.holders().end() ? ProducerId(0) : holder->second;
  const bool old_alive = is_producer_alive(old);
  for (PartitionUnit& unit : topic.partitions()) {
    spill::Partition& partition = *unit.partition;
    spill::ProducerMark mark;
    if (old_alive) {
      SLUICE_ASSIGN(spill::FenceMark fence, partition.fence(old, id));
      SLUICE_TRY(store_.add_fence(topic.id(), {partition.identity().partition, old, fence.position}));
      mark = std::move(fence.mark);
    } else if (old.value != 0) {
      mark = partition.last_of(old);
    }
    grant.last.push_back({partition.identity().partition, mark.sequence, mark.bookmark});
    partition.attach_name(id, name, std::move(mark));
  }
  SLUICE_TRY(store_.add_named_producer(topic.id(), {name, id}));
  topic.holders()[name] = id;
  return {};
}

Status Bus::close_producer(SessionId session_id, ProducerId producer) {
  SLUICE_ASSIGN(session::Session * session, live_session(session_id));
  if (!session->remove_producer(producer))
    return fail(ErrorCode::not_found,
                "closing producer " + std::to_string(producer.value) + ": this session has none of that id");
  end_producer(producer);
  return note(*session);
}

// ---- readers

Result<std::vector<session::PartitionGrant>> Bus::grants(const Topic& topic, session::Access access,
                                                         PartitionNumber first, std::uint32_t count) const {
  std::vector<session::PartitionGrant> granted;
  const std::size_t end = std::min<std::size_t>(topic.partitions().size(), std::size_t{first} + count);
  for (std::size_t number = first; number < end; ++number) {
    SLUICE_ASSIGN(session::PartitionGrant grant, topic.partitions()[number].regions->grant(access));
    granted.push_back(std::move(grant));
  }
  return granted;
}

Result<session::ReaderGrant> Bus::open_reader(SessionId session_id, session::OpenReader request) {
  SLUICE_ASSIGN(session::Session * session, live_session(session_id));
  SLUICE_ASSIGN(Topic * topic, find_topic(request.topic));
  SLUICE_TRY(topic->consumers().check(session->peer(), settings_.policy, "consuming from", topic->name()));
  session::ReaderGrant grant;
  grant.topic = topic->id();
  grant.partition_count = static_cast<std::uint32_t>(topic->partitions().size());
  std::vector<PartitionNumber> wanted;
  for (const session::CursorRequest& cursor : request.cursors) wanted.push_back(cursor.partition);
  if (request.cursors.empty())
    for (PartitionNumber number = 0; number < grant.partition_count; ++number) wanted.push_back(number);
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  if (!wanted.empty() && wanted.back() >= grant.partition_count)
    return fail(ErrorCode::not_found, "topic " + topic->name() + " has no partition " + std::to_string(wanted.back()) +
                                          ": it has " + std::to_string(grant.partition_count));
  std::vector<session::CursorEntry> cursors;
  for (const session::CursorRequest& cursor : request.cursors)
    if (cursor.cell != session::kNoCursor)
      cursors.push_back({cursor.partition, topic->partitions()[cursor.partition].handle, cursor.cell});
  for (const PartitionNumber number : wanted) {
    PartitionUnit& unit = topic->partitions()[number];
    if (grant.partitions.size() < session::kGrantPartitionsMax) {
      SLUICE_ASSIGN(session::PartitionGrant granted, unit.regions->grant(session::Access::consume));
      grant.partitions.push_back(std::move(granted));
    }
    // What was committed before this call is in the range.
    unit.partition->catch_up(monotonic_ns());
    grant.ranges.push_back({number, unit.partition->earliest(), unit.partition->frontier()});
  }
  grant.id = sessions_->add_reader(*session, topic->id(), std::move(cursors));
  if (auto noted = note(*session); !noted) {
    sessions_->remove_reader(*session, grant.id);
    return fail(noted.error());
  }
  return grant;
}

Status Bus::close_reader(SessionId session_id, std::uint64_t reader) {
  SLUICE_ASSIGN(session::Session * session, live_session(session_id));
  if (!sessions_->remove_reader(*session, reader))
    return fail(ErrorCode::not_found,
                "closing reader " + std::to_string(reader) + ": this session has none of that id");
  return note(*session);
}

Result<std::vector<session::PartitionGrant>> Bus::open_partitions(SessionId session_id, const std::string& name,
                                                                  session::Access access, PartitionNumber first,
                                                                  std::uint32_t count) {
  SLUICE_ASSIGN(session::Session * session, live_session(session_id));
  SLUICE_ASSIGN(Topic * topic, find_topic(name));
  const bool produces = access == session::Access::produce;
  const session::AccessList& list = produces ? topic->publishers() : topic->consumers();
  SLUICE_TRY(list.check(session->peer(), settings_.policy, produces ? "publishing to" : "consuming from", name));
  return grants(*topic, access, first, std::min(count, session::kGrantPartitionsMax));
}

}  // namespace sluice::bus
