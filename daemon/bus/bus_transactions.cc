// Bus: what transactions need of topics, partitions and sessions.
#include <spdlog/spdlog.h>

#include "daemon/bus/bus.h"
#include "shm/base/clock.h"

namespace sluice::bus {

Status Bus::take_over_halves() {
  for (const auto& [id, topic] : by_id_)
    for (const PartitionUnit& unit : topic->partitions())
      transactions_.partition_opened({id, unit.partition->identity().partition}, unit.partition->halves().open(),
                                     monotonic_ns());
  return transactions_.load();
}

void Bus::on_half(TopicId topic, PartitionNumber partition, const core::Half& half) {
  transactions_.half_met({topic, partition}, half, monotonic_ns());
}

Status Bus::keep_transactor(SessionId session_id, ProducerId id, const std::string& group) {
  SLUICE_ASSIGN(session::Session* const session, live_session(session_id));
  session->add_transactor(id, group);
  Status noted = note(*session);
  if (!noted) session->remove_transactor(id);
  return noted;
}

// A note that was not taken back keeps others waiting for an answer, no longer than the session lives.
void Bus::drop_transactor(SessionId session_id, ProducerId id) {
  session::Session* const session = sessions_->find(session_id);
  if (session == nullptr) return;
  session->remove_transactor(id);
  if (const Status noted = note(*session); !noted)
    spdlog::warn("what a session has closed is not noted session={} reason={}", session_id.value,
                 noted.error().message());
}

Status Bus::may_publish(const session::Peer& peer, TopicId topic) const {
  SLUICE_ASSIGN(const Topic* const found, find_topic(topic));
  return found->publishers().check(peer, settings_.policy, "publishing to", found->name());
}

std::optional<std::string> Bus::topic_name(TopicId topic) const {
  const auto found = by_id_.find(topic);
  return found == by_id_.end() ? std::nullopt : std::optional(found->second->name());
}

std::optional<Position> Bus::durable(const core::Place& place) const {
  const auto unit = find_partition(place.topic, place.partition);
  if (!unit || (*unit)->partition->gate() == layout::Gate::poisoned) return std::nullopt;
  return (*unit)->partition->durable();
}

void Bus::flush(const core::Place& place) {
  if (const auto unit = find_partition(place.topic, place.partition)) (*unit)->partition->flush_now();
}

bool Bus::decide(const core::Place& place, Position half, bool commit, std::uint64_t order) {
  const auto unit = find_partition(place.topic, place.partition);
  return unit && (*unit)->partition->decide(half, commit, order);
}

}  // namespace sluice::bus
