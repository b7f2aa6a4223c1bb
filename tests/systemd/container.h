// A systemd of a test's own: the root file system that make_root.sh makes, booted as a container, with the unit
// sluiced.service in it as it is installed.
//
// Owner: the test; one thread. It ends with this object, and with the process if that is killed. Clients of the test
// connect from outside of the container, so to the daemon they have no pid; run() runs inside.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "sluice/sluice.h"
#include "tests/crash/daemon_process.h"
#include "tests/faults/loop_device.h"

namespace sluice::test {

// Empty, or why no systemd can be booted here: the reason to skip. Makes the root file system; throws if what was built
// cannot be installed in it.
std::string why_no_container();

class Container {
 public:
  Container();  // booted; throws if it does not boot
  ~Container();
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  CommandResult run(std::vector<std::string> command) const;
  // systemctl ARGUMENTS; throws with what it said if it fails.
  void systemctl(std::vector<std::string> arguments) const;
  // A property of sluiced.service, as `systemctl show` has it.
  std::string property(const std::string& name) const;
  std::uint64_t number(const std::string& name) const { return std::stoull(property(name)); }
  // Replaces the unit's drop-in with these lines of [Service]; none: takes it away. Takes effect with the next start.
  void configure_unit(const std::string& lines) const;
  // A daemon that has nothing: no data, no descriptors of an earlier one.
  void start_afresh() const;
  Client connect(const std::string& name) const { return connect_to(socket(), name); }
  std::string socket() const { return root() / "run/sluice/sluice.sock"; }
  // What the service logged last.
  std::string log_tail() const;

 private:
  std::filesystem::path root() const { return "/proc/" + std::to_string(leader_) + "/root"; }

  std::filesystem::path folder_;
  Process boot_;
  pid_t leader_ = -1;  // its first process, as numbered outside
};

}  // namespace sluice::test
