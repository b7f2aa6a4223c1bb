#include "daemon/bus/mirror_keeper.h"

#include <algorithm>
#include <utility>

#include <spdlog/spdlog.h>

namespace sluice::bus {
namespace {
constexpr std::uint32_t kPagesAStep = 64;  // of the store
}  // namespace

MirrorKeeper::MirrorKeeper(io::MirrorDisk* disk, store::MirrorStore* store, MirrorKeeperOptions options)
    : disk_(disk),
      store_(store),
      options_(std::move(options)),
      retry_at_ns_(disk == nullptr ? 0 : disk->copy_count()) {}

bool MirrorKeeper::do_work(std::uint64_t now_ns) {
  if (disk_ == nullptr) return false;
  deadline_ns_ = 0;
  if (is_filling()) return go_on(now_ns);
  return !stopping_ && begin_one(now_ns);
}

bool MirrorKeeper::begin_one(std::uint64_t now_ns) {
  for (std::size_t copy = 0; copy < disk_->copy_count(); ++copy) {
    if (disk_->is_good(copy)) continue;
    if (now_ns < retry_at_ns_[copy]) {
      deadline_ns_ = deadline_ns_ == 0 ? retry_at_ns_[copy] : std::min(deadline_ns_, retry_at_ns_[copy]);
      continue;
    }
    if (Status begun = begin(copy); !begun) return end(copy, begun.error().message(), now_ns);
    spdlog::info("filling a copy root={}", disk_->root(copy));
    return true;
  }
  return false;
}

Status MirrorKeeper::begin(std::size_t copy) {
  store_done_ = store_ == nullptr;
  if (options_.may_fill) SLUICE_TRY(options_.may_fill(disk_->root(copy)));
  SLUICE_TRY(disk_->begin_fill(copy));
  return store_ == nullptr ? Status() : store_->begin_fill(copy);
}

bool MirrorKeeper::go_on(std::uint64_t now_ns) {
  const std::size_t copy = disk_->filling();
  if (ending_.empty() && stopping_) ending_ = "the daemon stopped before it was filled";
  if (ending_.empty()) ending_ = disk_->fill_failure();
  if (!ending_.empty()) return end(copy, ending_, now_ns);
  bool progressed = disk_->fill_step();
  if (!store_done_) {
    const Result<bool> filled = store_->fill(kPagesAStep);
    if (!filled) return end(copy, filled.error().message(), now_ns);
    store_done_ = *filled;
    progressed = true;
  }
  if (!store_done_ || !disk_->is_fill_complete()) return progressed;
  if (Status finished = finish(copy); !finished) return end(copy, finished.error().message(), now_ns);
  spdlog::info("a copy is good again root={}", disk_->root(copy));
  last_failure_.clear();
  return true;
}

Status MirrorKeeper::finish(std::size_t copy) {
  if (store_ != nullptr && !store_->is_filled(copy))
    return fail(ErrorCode::io, "filling " + disk_->root(copy) + ": its store failed");
  return disk_->finish_fill();
}

// Tried again later. False: the disk has not let go yet.
bool MirrorKeeper::end(std::size_t copy, const std::string& reason, std::uint64_t now_ns) {
  ending_ = reason;
  if (is_filling() && !disk_->end_fill(reason)) return false;
  if (store_ != nullptr) store_->end_fill();
  retry_at_ns_[copy] = now_ns + options_.retry_ns;
  deadline_ns_ = retry_at_ns_[copy];
  if (!stopping_ && reason != last_failure_)
    spdlog::error("a copy cannot be filled, tried again later root={} reason={}", disk_->root(copy), reason);
  last_failure_ = std::exchange(ending_, {});
  return false;
}

}  // namespace sluice::bus
