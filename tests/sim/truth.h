// What a simulation knows to be true of one partition, over all lives of its daemon: who claimed what, what was
// committed, what a receipt has called durable. The code under test never sees it.
//
// Owner: the simulation's one thread.
//
// What is checked here
//  1. No position is claimed twice, in one life or over several.
//  2. After a recovery the disk holds a prefix of what the last life committed, at least all that was called durable,
//  and
//     all that earlier recoveries found; byte for byte, and nothing else.
//  3. Each producer's sequence numbers on disk are contiguous, in order of position.
//  4. A delayed message has one ref at most, which came at its time or later; without one it is waited for.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "daemon/core/audit.h"
#include "daemon/core/delay_queue.h"
#include "shm/base/types.h"

namespace sluice::sim {

// What a broken promise is thrown as; the driver adds the seed.
class Failure : public std::runtime_error {
  using std::runtime_error::runtime_error;
};
void check(bool holds, const std::string& what);

// A payload that only this message has.
std::string payload_of(ProducerId producer, Sequence sequence, std::uint32_t size);

struct Message {
  ProducerId producer;
  Sequence sequence;
  Position end;
  std::uint32_t size = 0;  // of the payload
  std::string bookmark;
  bool kept = false;  // an earlier recovery has found it
  std::optional<std::uint64_t> due_ns;
};

// What a walk over the files after a recovery met.
struct Found {
  Position position;
  Position end;
  bool aborted = false;
  ProducerId producer;
  Sequence sequence;
  std::string payload;
  std::string bookmark;
  bool delayed = false;
  std::optional<Position> reference;  // of a ref
  std::uint64_t time_ns = 0;
};

// Where a producer stands, by what is on disk.
struct Standing {
  Sequence last;
  std::string bookmark;
};

class Truth {
 public:
  // ---- as it happens
  void on_life(Position start);
  void on_prepared(Position prepared) { prepared_ = std::max(prepared_, prepared); }
  void on_durable(Position durable);
  void on_claim(Position begin, Position end);
  void on_commit(Position begin, Message message);
  void on_fence(ProducerId producer, Position position) { fences_[producer] = position; }
  // The producer's first sequence in this partition.
  void on_attach(ProducerId producer, Sequence first) { first_[producer] = first; }
  // What a reader of the running bus met.
  void on_read(Position position, ProducerId producer, Sequence sequence, std::span<const std::byte> payload) const;

  // ---- after a recovery, from a walk over the files
  void check_recovered(const std::vector<Found>& found, Position end);
  // Over kept memory: nothing below `end` is missing, and all else is still to come.
  void check_adopted(const std::vector<Found>& found, Position end);
  // Everything that was committed is there.
  void check_complete(const std::vector<Found>& found);
  void check_audit(const std::vector<core::AuditRow>& rows) const;
  // What a daemon waits for that has read what the last walk found. Returns how many.
  std::size_t check_delays(core::DelayQueue queue) const;
  std::size_t ref_count() const { return refs_.size(); }
  // Of the last recovery.
  std::optional<Standing> standing(ProducerId producer) const;

  Position durable() const { return durable_; }
  std::size_t message_count() const { return messages_.size(); }

 private:
  struct Counts {
    Sequence first;
    Sequence last;
    std::uint64_t data = 0;
    std::uint64_t delayed = 0;
    std::uint64_t aborted = 0;
    std::uint64_t fenced = 0;
    std::string bookmark;
    Sequence last_standing;  // not fenced
  };
  void match(const std::vector<Found>& found, Position end);
  void count(const Found& found);
  void check_message(const Found& found) const;
  void check_ref(const Found& found);
  bool is_fenced(ProducerId producer, Position position) const;

  std::map<Position, Message> messages_;
  std::set<Position> found_;             // of them: those of the last walk
  std::map<Position, Position> claims_;  // of the running life: begin → end
  std::map<ProducerId, Position> fences_;
  std::map<ProducerId, Sequence> first_;
  std::map<ProducerId, Counts> counts_;  // of the last walk
  std::map<Position, Position> refs_;    // of the last walk: what they mean → where they stand
  Position start_;                       // of the running life
  Position prepared_;                    // highest of all lives: nothing was claimed above it
  Position durable_;                     // highest that was published, or recovered
};

}  // namespace sluice::sim
