// One descriptor for an epoll loop that stays the same over all joins: an epoll set of what can make it readable.
//
//   the member's eventfd   the daemon writes it when there is something to read
//   our own eventfd        kick(): room, after a limit
//   a timer                a lost wake-up, a daemon that is new: look again after a second
//
// Owner: one ConsumerCore, on the consumer's thread.
#pragma once

#include "shm/base/fd.h"
#include "shm/base/result.h"

namespace sluice::internal {

class Readiness {
 public:
  // quota (descriptors).
  static Result<Readiness> make();

  int fd() const { return epoll_.get(); }
  // The member's eventfd, from now on; -1: none. The former one is let go.
  Status watch(int member_fd);
  // Nothing was found: not readable until something makes it so.
  void drain();
  void kick();

 private:
  Readiness() = default;

  UniqueFd epoll_;
  UniqueFd own_;
  UniqueFd timer_;
  UniqueFd member_;  // a duplicate: it leaves the set when it is closed here
};

}  // namespace sluice::internal
