// Dead letters: messages that failed too often are copied once into the topic dlq.<group>, and noted.
//
//   parking ── copy appended ──▶ waiting for durable ──▶ noted in the store, the message is settled
//
// Owner: Delivery, on the bus thread.
//
// Invariants
//  1. A message is forgotten by its group only in the transaction that notes its letter, and that only once the copy is
//     durable: it is never dropped.
//  2. A copy names its origin; a start looks for copies that were appended and not noted before it makes another one:
//  it
//     is never there twice.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "daemon/delivery/group.h"
#include "daemon/delivery/logs.h"
#include "daemon/session/group_interface.h"
#include "daemon/store/group_store.h"

namespace sluice::delivery {

class DeadLetters {
 public:
  DeadLetters(Logs& logs, store::GroupStore& store) : logs_(logs), store_(store) {}

  // These are to be parked. `at_start`: an earlier daemon may have appended their copies.
  void add(Group& group, std::vector<Parking> parkings, bool at_start);
  // The group is gone.
  void forget(std::uint64_t group);
  // Appends copies, and notes those that have become durable. True if anything was done.
  bool do_work(const Now& now);
  // When to try again what had no room; 0: nothing waits for that.
  std::uint64_t deadline_ns() const { return retry_at_ns_; }
  bool idle() const { return entries_.empty(); }

 private:
  enum class Step : std::uint8_t { find, append, durable };
  struct Entry {
    Group* group = nullptr;
    core::Place place;
    Position position;
    Step step = Step::append;
    TopicId topic;  // of the copy
    Position copy;
    Position copy_end;
    store::DeadLetterRecord record;
  };

  enum class Advance : std::uint8_t { stays, moved, done };
  Advance advance(Entry& entry, const Now& now);
  Advance append(Entry& entry, const Now& now);
  void find_copies(Group& group);
  bool note(const Now& now, std::vector<Entry>& durable);
  Result<std::pair<std::string, std::string>> copy_of(Entry& entry, const Now& now);

  Logs& logs_;
  store::GroupStore& store_;
  std::deque<Entry> entries_;
  std::uint64_t retry_at_ns_ = 0;
};

session::DeadLetter describe(const store::DeadLetterRecord& record, const std::string& group);

}  // namespace sluice::delivery
