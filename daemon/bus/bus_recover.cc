// Bus: poisoned partitions are opened again, once the operator has looked at the disk.
//
// What the device has kept of the last writes is unknown, so the partition's memory counts as lost: its log is
// recovered as at a start, and it goes on at positions above everything that the memory may have held. The clients that
// have it open attach anew, as after lost memory, and report what they had sent; of their other topics nothing is lost.
//
// Order: clients cannot resume their sessions before the memory is replaced, so that none goes on with the old one.
#include <algorithm>
#include <utility>

#include <spdlog/spdlog.h>

#include "daemon/bus/bus.h"

namespace sluice::bus {

Status Bus::recover_topic(SessionId session_id, const std::string& name, std::optional<PartitionNumber> partition) {
  SLUICE_ASSIGN(session::Session * session, live_session(session_id));
  const std::string doing = "recovering topic " + name;
  SLUICE_TRY(require_operator(*session, doing));
  SLUICE_ASSIGN(Topic * topic, find_topic(name));
  if (partition && *partition >= topic->partitions().size())
    return fail(ErrorCode::not_found, doing + ": it has no partition " + std::to_string(*partition));
  std::vector<PartitionNumber> poisoned;
  for (const PartitionUnit& unit : topic->partitions()) {
    const PartitionNumber number = unit.partition->identity().partition;
    if (unit.partition->gate() == layout::Gate::poisoned && partition.value_or(number) == number)
      poisoned.push_back(number);
  }
  if (poisoned.empty())
    return fail(ErrorCode::conflict,
                doing + ": " + (partition ? "partition " + std::to_string(*partition) : "no partition of it") + " is " +
                    (partition ? "not poisoned" : "poisoned") + "; nothing was done");
  let_attach_anew(*topic);
  for (const PartitionNumber number : poisoned) SLUICE_TRY(recover_partition(*topic, number));
  topic->publish_partition_count();
  return {};
}

Status Bus::recover_partition(Topic& topic, PartitionNumber number) {
  PartitionUnit& unit = topic.partitions()[number];
  const std::string name = unit.partition->identity().name;
  if (!unit.partition->is_idle())
    return fail(ErrorCode::would_block, "recovering " + name + ": requests to its disk have not ended yet; try again");
  SLUICE_ASSIGN(const std::vector<store::NamedProducer> attaches, store_.named_producers(topic.id()));
  topic.set_attaches(attaches);
  SLUICE_ASSIGN(std::vector<store::FenceRecord> fences, store_.fences(topic.id()));
  topic.set_fences(std::move(fences));
  const std::uint32_t before = unit.handle;
  const std::uint32_t handle = next_handle_++;
  unit.partition->release_log();  // its locks, too
  if (auto replaced = topic.replace_partition(number, handle, open_context(topic.id()), findings_); !replaced) {
    unit.unrecovered = replaced.error().message();
    return fail(replaced.error());
  }
  PartitionUnit& opened = topic.partitions()[number];
  opened.reporters_end = next_producer_;
  by_handle_.erase(before);
  by_handle_[handle] = opened.partition.get();
  transactions_.partition_opened({topic.id(), number}, opened.partition->halves().open(), monotonic_ns());
  drop_partition(before);
  if (auto kept = keep_partitions(topic); !kept) {
    opened.unrecovered = kept.error().message();
    opened.partition->close_gate(layout::Gate::poisoned);
    drop_partition(handle);
    return kept;
  }
  spdlog::warn("poisoned partition opened again partition={} goes_on_at={}", name, opened.partition->frontier().value);
  return {};
}

// Sessions that have the topic open: their clients come back with a new one, and open everything in it again. The old
// one goes on, and with it what its producers do elsewhere, until the client has let its memory go.
void Bus::let_attach_anew(const Topic& topic) {
  const auto has_open = [&](const session::Session& session) {
    const auto is_of_topic = [&](const auto& entry) { return entry.second.topic == topic.id(); };
    return std::any_of(session.producers().begin(), session.producers().end(), is_of_topic) ||
           std::any_of(session.readers().begin(), session.readers().end(), is_of_topic);
  };
  std::vector<SessionId> replaced;
  sessions_->for_each([&](const session::Session& session) {
    if (has_open(session)) replaced.push_back(session.id());
  });
  for (const SessionId id : replaced) {
    session::Session* session = sessions_->find(id);
    session->forget_token();
    if (auto noted = note(*session); !noted)
      spdlog::error("session not noted session={} reason={}", id.value, noted.error().message());
    replaced_sessions_.push_back(id);
  }
}

// A turn later, so that a caller that is one of them gets its answer.
bool Bus::hang_up_replaced() {
  if (replaced_sessions_.empty()) return false;
  for (const SessionId session : std::exchange(replaced_sessions_, {}))
    if (settings_.on_revoked) settings_.on_revoked(session);
  return true;
}

}  // namespace sluice::bus
