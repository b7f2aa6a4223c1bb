#include "daemon/io/closer.h"

#include <pthread.h>

#include <system_error>
#include <utility>

namespace sluice::io {

Closer::~Closer() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Closer::close(UniqueFd fd) {
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(fd));
  if (!thread_.joinable() && !start()) queue_.clear();
  changed_.notify_one();
}

// False: no thread to be had.
bool Closer::start() {
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {
    return false;
  }
  ::pthread_setname_np(thread_.native_handle(), "sluice-closer");
  return true;
}

void Closer::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) return;
    UniqueFd fd = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    fd.reset();
    lock.lock();
  }
}

}  // namespace sluice::io
