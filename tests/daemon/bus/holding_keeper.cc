#include "tests/daemon/bus/holding_keeper.h"

#include "shm/region/memfd.h"

namespace sluice::bus {

Status HoldingKeeper::keep(const std::string& name, int fd) {
  if (held_.size() >= capacity_) return fail(ErrorCode::quota, "the test's keeper is full");
  if (takes_ == 0) return fail(ErrorCode::io, "nobody listens");
  --takes_;
  SLUICE_ASSIGN(held_[name], region::duplicate(fd, name));
  return {};
}

void HoldingKeeper::drop_all_but(const std::set<std::string>& names) {
  std::erase_if(held_, [&](const auto& entry) { return names.count(entry.first) == 0; });
}

keep::Inheritance HoldingKeeper::inheritance() const {
  keep::Inheritance inherited;
  for (const auto& [name, fd] : held_) inherited[name] = region::duplicate(fd.get(), name).value();
  return inherited;
}

std::set<std::string> HoldingKeeper::names() const {
  std::set<std::string> names;
  for (const auto& [name, fd] : held_) names.insert(name);
  return names;
}

}  // namespace sluice::bus
