// What a reader saw of each worker's messages, to hold against the board. One thread.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sluice/sluice.h"
#include "tests/crash/board.h"

namespace sluice::test {

class Ledger {
 public:
  // Empty, or what is wrong with this message: its bytes, a repeat, or its order within its worker and partition.
  std::string note(const Message& message) {
    const std::string at = message.address().to_string();
    Origin origin;
    if (!parse_payload(message.text(), origin)) return at + ": its bytes are not those that were sent";
    if (origin.worker >= kWorkersMax) return at + ": of a worker that there is not";
    std::uint64_t& last = last_[{origin.worker, message.partition()}];
    if (origin.counter <= last)
      return at + ": message " + std::to_string(origin.counter) + " of worker " + std::to_string(origin.worker) +
             " came after " + std::to_string(last);
    last = origin.counter;
    ++messages_;
    seen_[origin.worker].push_back(origin.counter);
    return {};
  }

  // How many different messages of that worker were seen, and the highest counter among them.
  std::uint64_t count(std::uint32_t worker) const {
    const auto found = seen_.find(worker);
    return found == seen_.end() ? 0 : found->second.size();
  }
  std::uint64_t highest(std::uint32_t worker) const {
    std::uint64_t highest = 0;
    const auto found = seen_.find(worker);
    if (found != seen_.end())
      for (const std::uint64_t counter : found->second) highest = std::max(highest, counter);
    return highest;
  }
  std::uint64_t messages() const { return messages_; }

 private:
  std::map<std::pair<std::uint32_t, PartitionNumber>, std::uint64_t> last_;
  std::map<std::uint32_t, std::vector<std::uint64_t>> seen_;
  std::uint64_t messages_ = 0;
};

}  // namespace sluice::test
