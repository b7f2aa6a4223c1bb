// TransactionMachine: groups of which nobody lives who could be asked, and how long their transactions wait.
#include <algorithm>

#include "daemon/core/transaction_machine.h"

namespace sluice::core {

void TransactionMachine::say_silent(NamedGroup& group, bool silent) {
  group.second.silent = silent;
  silences_.push_back({group.first, silent});
}

// Who waits begins to wait anew if they go again.
void TransactionMachine::end_silence(NamedGroup& group) {
  if (!group.second.silent) return;
  say_silent(group, false);
  for (const TransactionId id : group.second.waiting)
    if (const auto entry = transactions_.find(id); entry != transactions_.end()) entry->second.park_at_ns = 0;
}

// None has waited for longer than it is there.
void TransactionMachine::restore_silences(const std::map<std::string, std::uint64_t>& silent_for_ns,
                                          std::uint64_t wall_ns, std::uint64_t now_ns) {
  for (const auto& [name, silent_ns] : silent_for_ns) {
    const auto group = groups_.find(name);
    if (group == groups_.end())
      silences_.push_back({name, false});
    else
      group->second.silent = true;
  }
  for (auto& [id, transaction] : transactions_) {
    const auto silent = silent_for_ns.find(transaction.group->first);
    if (silent == silent_for_ns.end() || transaction.created_ns == 0) continue;
    const std::uint64_t age = wall_ns - std::min(wall_ns, transaction.created_ns);
    transaction.park_at_ns = now_ns + rules_.park_after_ns - std::min({silent->second, age, rules_.park_after_ns});
  }
}

// Where nobody lives who could be asked, the group's resolver is, and until it answers the time to parking runs.
void TransactionMachine::count_nobody(TransactionId id, Transaction& transaction, std::uint64_t now_ns) {
  if (transaction.park_at_ns == 0) transaction.park_at_ns = now_ns + rules_.park_after_ns;
  if (!transaction.group->second.silent) say_silent(*transaction.group, true);
  if (transaction.run != 0) return;  // its end says how it goes on
  if (now_ns >= transaction.park_at_ns) {
    park(id, transaction);
    return;
  }
  schedule(id, transaction, transaction.park_at_ns);
  const auto resolver = transaction.group->second.resolver;
  if (!resolver) return;
  if (!std::exchange(transaction.queued, true)) resolvers_.push(*resolver, id);
  run_resolvers();
}

}  // namespace sluice::core
