#include "daemon/core/resolver_queues.h"

#include "daemon/core/resolver.h"

namespace sluice::core {

ResolverQueues::ResolverQueues(const std::vector<std::string>& groups) : queues_(groups.size()) {
  for (std::size_t i = 0; i < groups.size(); ++i) by_group_.emplace(groups[i], i);
}

std::optional<std::size_t> ResolverQueues::find(const std::string& group) const {
  const auto found = by_group_.find(group);
  return found == by_group_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<ResolverQueues::Next> ResolverQueues::next() {
  if (runs_.size() >= kResolverRunsMax) return std::nullopt;
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    const std::size_t resolver = (turn_ + i) % queues_.size();
    Queue& queue = queues_[resolver];
    if (queue.due.empty() || queue.runs >= kResolverRunsPerGroupMax) continue;
    const Next next{resolver, queue.due.front()};
    queue.due.pop_front();
    turn_ = resolver + 1;
    return next;
  }
  return std::nullopt;
}

void ResolverQueues::began(std::uint64_t serial, const Next& next) {
  runs_.emplace(serial, next);
  ++queues_[next.resolver].runs;
}

std::optional<TransactionId> ResolverQueues::ended(std::uint64_t serial) {
  const auto run = runs_.find(serial);
  if (run == runs_.end()) return std::nullopt;
  const Next next = run->second;
  runs_.erase(run);
  --queues_[next.resolver].runs;
  return next.transaction;
}

}  // namespace sluice::core
