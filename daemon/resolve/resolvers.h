// Who runs resolvers, as an interface: processes in the daemon, whatever a test wants elsewhere.
//
// Thread safety: used on the bus thread; what runs them has threads of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "shm/base/transaction_id.h"

namespace sluice::resolve {

struct Question {
  std::uint64_t serial = 0;  // of this run; comes back with the answer
  TransactionId transaction;
  std::string group;                // one that has a resolver
  std::string halves;               // "topic/partition@position", with a blank between two
  std::size_t halves_left_out = 0;  // that had no room there
};

struct Answer {
  std::uint64_t serial = 0;
  TransactionId transaction;
  std::optional<Verdict> verdict;  // nothing: it gave none
  std::string why;                 // none: in words
  std::string said;                // none: the first line of its standard error
};

class Resolvers {
 public:
  virtual ~Resolvers() = default;

  // Begins a run, and does not wait for it. Each is answered once, unless the daemon stops first.
  virtual void ask(Question question) = 0;
  // What has come since.
  virtual std::vector<Answer> take_answers() = 0;
};

}  // namespace sluice::resolve
