// The file-descriptor store of a service manager, by systemd's notification protocol (sd_notify(3), FDSTORE). The
// keeper speaks the same protocol, so a daemon knows one way only.
//
// Owner: the bus thread. A call may wait for a manager that is slow to read its socket.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "daemon/keep/region_keeper.h"

namespace sluice::keep {

class NotifyStore final : public RegionKeeper {
 public:
  // Null if there is none: no NOTIFY_SOCKET, or nobody says how many descriptors it holds. That is $FDSTORE (systemd
  // 254 and later), or $SLUICE_FDSTORE_MAX, which the unit sets to its FileDescriptorStoreMax. `inherited`: what the
  // daemon before left; taken out of the environment, so call it once, at the start.
  static std::unique_ptr<NotifyStore> from_environment(Inheritance& inherited);
  // Whether there is one; changes nothing.
  static bool is_in_environment();

  Status keep(const std::string& name, int fd) override;
  void drop(const std::string& name) override;
  void drop_all_but(const std::set<std::string>& names) override;
  Status barrier() override;
  Result<UniqueFd> begin_barrier() override;
  std::uint64_t capacity() const override { return capacity_; }
  std::uint64_t held() const override { return names_.size() + undropped_.size(); }

 private:
  explicit NotifyStore(std::uint64_t capacity) : capacity_(capacity) {}

  // Says what could not be said before.
  void settle();

  const std::uint64_t capacity_;
  std::set<std::string> names_;
  std::set<std::string> undropped_;  // dropped, and the manager does not know it yet
};

}  // namespace sluice::keep
