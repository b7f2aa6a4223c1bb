#include "sdk/handler_pool.h"

#include <pthread.h>

#include <utility>

namespace sluice::internal {

HandlerPool::HandlerPool(std::uint32_t threads, const Handler& handler, bool hold_failed,
                         std::function<void()> on_finished)
    : handler_(handler), hold_failed_(hold_failed), on_finished_(std::move(on_finished)) {
  for (std::uint32_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

HandlerPool::~HandlerPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ready_cv_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void HandlerPool::submit(std::uint64_t task, std::uint64_t lane, const Delivery& delivery) {
  {
    const std::lock_guard lock(mutex_);
    const auto [entry, fresh] = lanes_.try_emplace(lane);
    entry->second.queued.push_back({task, delivery});
    if (!fresh) return;
    ready_.push_back(lane);
  }
  ready_cv_.notify_one();
}

std::vector<HandlerPool::Finished> HandlerPool::take_finished() {
  const std::lock_guard lock(mutex_);
  return std::exchange(finished_, {});
}

std::vector<std::uint64_t> HandlerPool::take_failed_lane(std::uint64_t lane) {
  std::vector<std::uint64_t> queued;
  if (!hold_failed_) return queued;
  const std::lock_guard lock(mutex_);
  const auto entry = lanes_.find(lane);
  if (entry == lanes_.end()) return queued;
  for (const Task& task : entry->second.queued) queued.push_back(task.number);
  lanes_.erase(entry);
  return queued;
}

void HandlerPool::work() {
  ::pthread_setname_np(::pthread_self(), "sluice-handler");
  std::unique_lock lock(mutex_);
  for (;;) {
    ready_cv_.wait(lock, [this] { return stopping_ || !ready_.empty(); });
    if (stopping_) return;
    const std::uint64_t lane = ready_.front();
    ready_.pop_front();
    // Nodes of an unordered_map stay where they are, and a lane that runs is not erased.
    Lane& running = lanes_.at(lane);
    Task task = std::move(running.queued.front());
    running.queued.pop_front();
    lock.unlock();
    Status result = handler_(task.delivery);
    const bool failed = !result;
    lock.lock();
    finished_.push_back({task.number, std::move(result)});
    if (!failed || !hold_failed_) {
      if (running.queued.empty())
        lanes_.erase(lane);
      else
        ready_.push_back(lane);
    }
    lock.unlock();
    ready_cv_.notify_one();
    on_finished_();
    lock.lock();
  }
}

}  // namespace sluice::internal
