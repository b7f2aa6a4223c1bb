// One process of the daemon's own: started with nothing of the daemon's but its user, ended with all that it started.
//
// It has no descriptors but 0–2 (nothing to read, nowhere to write, its standard error to the daemon), every signal
// unblocked and at its default, `/` as its directory, and a process group of its own. It is killed when the thread that
// started it ends, however that ends.
//
// Owner and thread: the runner's. Not for a process that has SIGCHLD ignored: its children leave no exit code.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "shm/base/fd.h"
#include "shm/base/result.h"

namespace sluice::resolve {

class Child {
 public:
  // `command`: its path and arguments; `environment`: NAME=VALUE. Returns once the program runs. Errors: of the system,
  // with the path.
  static Result<Child> start(const std::vector<std::string>& command, const std::vector<std::string>& environment);

  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;
  ~Child();  // killed and waited for, if that was not done

  // Readable once it has ended.
  int exit_fd() const { return exit_.get(); }
  // Its standard error: non-blocking.
  int said_fd() const { return said_.get(); }
  bool is_reaped() const { return pid_ < 0; }
  // SIGKILL to its process group.
  void kill();
  // Its wait status. It has ended, or will: waits for it. What it has left in its process group is killed.
  int reap();

 private:
  Child(pid_t pid, UniqueFd exit, UniqueFd said) : pid_(pid), exit_(std::move(exit)), said_(std::move(said)) {}

  pid_t pid_ = -1;  // of the process and its group; -1: reaped
  UniqueFd exit_;
  UniqueFd said_;
};

}  // namespace sluice::resolve
