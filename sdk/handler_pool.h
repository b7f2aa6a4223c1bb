// Threads that run an application's handler. Tasks of one lane run in the order of their submission, one at a time;
// lanes run beside each other.
//
// Owner: one HandlerLoop; its thread calls every member. Threads: as many as asked for, named "sluice-handler".
// Invariants
//  1. A lane is in ready_ exactly if it has tasks and none of them runs or has failed.
//  2. With `hold_failed`, a lane whose task has failed runs nothing more until take_failed_lane() has emptied it.
//  3. Every task that was submitted is finished or was taken out again; the destructor waits for those that run.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "sluice/consumer.h"

namespace sluice::internal {

class HandlerPool {
 public:
  struct Finished {
    std::uint64_t task = 0;
    Status result;
  };

  // `on_finished` is called on a pool's thread after each task, behind what take_finished() gives.
  HandlerPool(std::uint32_t threads, const Handler& handler, bool hold_failed, std::function<void()> on_finished);
  ~HandlerPool();
  HandlerPool(const HandlerPool&) = delete;
  HandlerPool& operator=(const HandlerPool&) = delete;

  void submit(std::uint64_t task, std::uint64_t lane, const Delivery& delivery);
  std::vector<Finished> take_finished();
  // With hold_failed, once for a task that has failed: those behind it in its lane, in order; they are not run.
  std::vector<std::uint64_t> take_failed_lane(std::uint64_t lane);

 private:
  struct Task {
    std::uint64_t number = 0;
    Delivery delivery;
  };
  struct Lane {
    std::deque<Task> queued;
  };

  void work();

  // Constant.
  const Handler& handler_;
  const bool hold_failed_;
  const std::function<void()> on_finished_;
  // Shared, under mutex_.
  std::mutex mutex_;
  std::condition_variable ready_cv_;
  std::unordered_map<std::uint64_t, Lane> lanes_;  // those with tasks, or with one that runs or has failed
  std::deque<std::uint64_t> ready_;
  std::vector<Finished> finished_;
  bool stopping_ = false;
  // Last: they use all of it.
  std::vector<std::thread> threads_;
};

}  // namespace sluice::internal
