// The store in memory, for simulation: it has the faults that a real one can have, and no others.
//
// Owner: one test thread. The medium outlives the stores that are opened on it.
//
// Fault model
//  1. A call that returned success is durable: every power loss keeps it.
//  2. A power loss in the middle of a mutating call leaves the call's transaction whole or not at all; the medium's
//  seed
//     decides. The call itself fails with `io`, so that its caller does not know either. What survives is therefore
//     always a prefix of the commits, in their order.
//  3. After a power loss every store that was open answers `io` for ever; a new one opened on the medium sees what
//  survived.
//  4. A commit may be refused for lack of room (fail_next): nothing of it stays, and the next one may succeed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <random>

#include "daemon/store/store.h"

namespace sluice::store {

struct SimStoreState;

class SimStoreMedium {
 public:
  explicit SimStoreMedium(std::uint64_t seed);
  ~SimStoreMedium();
  SimStoreMedium(const SimStoreMedium&) = delete;
  SimStoreMedium& operator=(const SimStoreMedium&) = delete;

  // in_use while another store is open.
  Result<std::unique_ptr<Store>> open();
  // The power goes now, between two calls.
  void lose_power();
  // The power goes inside the n-th mutating call from now (1: the next one).
  void lose_power_in(std::uint64_t calls);
  // The next mutating call is refused with this code.
  void fail_next(ErrorCode code);
  // Commits that are durable.
  std::uint64_t commits() const { return commits_; }
  // How often the power went.
  std::uint64_t power_losses() const { return power_losses_; }

 private:
  friend class SimStore;
  std::unique_ptr<SimStoreState> state_;
  std::mt19937_64 random_;
  std::uint64_t commits_ = 0;
  std::uint64_t power_losses_ = 0;
  std::uint64_t calls_to_loss_ = 0;  // 0: none planned
  std::optional<ErrorCode> refusal_;
  bool open_ = false;
};

}  // namespace sluice::store
