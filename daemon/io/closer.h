// Closes descriptors on a thread of its own: the last one of a removed file frees the file's blocks, which takes the
// kernel tens of milliseconds per 256 MiB, and the bus thread has senders waiting.
//
// Thread safety: close() from any thread. The thread starts with the first descriptor; destruction ends what is queued.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "shm/base/fd.h"

namespace sluice::io {

class Closer {
 public:
  Closer() = default;
  ~Closer();
  Closer(const Closer&) = delete;
  Closer& operator=(const Closer&) = delete;

  // Where no thread can be started, closes it at once.
  void close(UniqueFd fd);

 private:
  bool start();
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<UniqueFd> queue_;  // guarded by mutex_
  bool stop_ = false;           // guarded by mutex_
  std::thread thread_;
};

}  // namespace sluice::io
