// What keeps the bytes of a message where they are: a pin on a segment in memory, or a mapping of a log file. Counted.
//
// One Hold is one segment in memory (or one file) that a reader is in, or that living messages still look at. Holds
// come from their reader's pool and go back to it from whatever thread drops the last reference; in the steady state
// none is made, so nothing is allocated for a message.
//
// Invariants
//  1. The pin cell is cleared with release when the last reference goes, before the Hold is anybody else's.
//  2. A Hold keeps mapped what its messages look at: the partition's regions with the session that pins them (also
//  after
//     the daemon's memory was replaced), or the file.
//  3. A pool lives until its reader has closed it and its last Hold is back.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sdk/control_session.h"
#include "sdk/file_source.h"
#include "sdk/partition_maps.h"
#include "shm/base/result.h"
#include "sluice/message.h"

namespace sluice::internal {

class HoldPool;

struct Hold {
  std::atomic<std::uint32_t> references{0};
  HoldPool* pool = nullptr;
  Hold* next = nullptr;     // in the stack of those given back
  PinLease pin;             // empty in a Hold that only ever held files
  PartitionMapsPtr memory;  // set: the pin cell may stand
  FileMapPtr file;          // set: the bytes are a file's
};

// Takes a further reference, drops one. Any thread.
void retain(Hold* hold);
void release(Hold* hold);

class HoldPool {
 public:
  // Holds that messages of one reader may keep at a time; memory's are limited by the session's pin cells as well.
  static constexpr std::size_t kHoldsMax = 1024;

  struct Closer {
    void operator()(HoldPool* pool) const { pool->close(); }
  };
  using Ptr = std::unique_ptr<HoldPool, Closer>;
  static Ptr make() { return Ptr(new HoldPool()); }

  // One reference, the caller's. With a session: with a (cleared) pin cell in it; else for a file. quota: too many are
  // held by living messages. The reader's thread.
  Result<Hold*> take(const std::shared_ptr<SessionMemory>& session);
  // A copy of the name that lives as long as the pool. The reader's thread.
  std::string_view keep_name(std::string_view name);
  // Any thread; by release().
  void give_back(Hold* hold);

 private:
  HoldPool() = default;
  ~HoldPool() = default;
  void close();
  void leave();
  void collect();

  // Shared: the reader and each Hold that is out.
  std::atomic<std::uint32_t> users_{1};
  std::atomic<Hold*> returned_{nullptr};  // pushed by any thread; taken as a whole by the reader's
  // The reader's thread.
  std::vector<std::unique_ptr<Hold>> all_;
  std::vector<Hold*> free_;
  std::deque<std::string> names_;
};

}  // namespace sluice::internal
