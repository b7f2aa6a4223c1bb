// A keeper of regions in the test's own process.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "daemon/keep/region_keeper.h"
#include "shm/base/fd.h"

namespace sluice::bus {

// Holds descriptors as a service manager does, in this process.
class HoldingKeeper final : public keep::RegionKeeper {
 public:
  Status keep(const std::string& name, int fd) override;
  void drop(const std::string& name) override { held_.erase(name); }
  void drop_all_but(const std::set<std::string>& names) override;
  Status barrier() override { return {}; }
  Result<UniqueFd> begin_barrier() override { return UniqueFd(); }
  std::uint64_t capacity() const override { return capacity_; }
  std::uint64_t held() const override { return held_.size(); }

  // Copies of what is held, for the next bus.
  keep::Inheritance inheritance() const;
  void set_capacity(std::uint64_t capacity) { capacity_ = capacity; }
  // Only so many more are taken; then nobody listens.
  void refuse_after(std::uint64_t count) { takes_ = count; }
  std::set<std::string> names() const;
  const std::map<std::string, UniqueFd>& descriptors() const { return held_; }

 private:
  std::map<std::string, UniqueFd> held_;
  std::uint64_t capacity_ = 1000;
  std::uint64_t takes_ = UINT64_MAX;
};

}  // namespace sluice::bus
