// What became of every sequence number: the counts behind `sluice audit`, one row per producer and partition.
//
// Pure state machine: fed by the spiller's scan in order of position (and by recovery's, with the same calls). Owner:
// the bus thread.
//
// Rows of anonymous producers that have ended are folded into one, the oldest first, so that memory does not grow with
// the number of producers that ever lived: its counts are the sums of theirs, its sequences run from 1 to what they
// sent together. Until then a row is there for the client's report after lost memory.
//
// Invariants, of each row, at all times (asserted after each event)
//  1. sequence_last − sequence_first + 1 = data + halves (committed, rolled back, open) + delayed + aborted + fenced +
//     dropped + cut + quarantined + expired + gaps − repeats: a gap is what the sum would otherwise lack. Counted
//     modulo 2^64, for a hostile producer may name any sequence.
//  2. sequence_first = 0 says that nothing was counted yet; sequence_last + 1 is then where the producer starts.
//  3. next_sequence never goes down.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "shm/base/types.h"

namespace sluice::core {

// Nobody's id: the row that others are folded into.
inline constexpr ProducerId kFoldedProducer{0};

struct AuditCounts {
  Sequence sequence_first;  // 0: nothing yet
  Sequence sequence_last;
  std::uint64_t data = 0;
  std::uint64_t committed_halves = 0;
  std::uint64_t rolled_back = 0;
  std::uint64_t open = 0;
  std::uint64_t delayed = 0;
  std::uint64_t aborted = 0;
  std::uint64_t fenced = 0;
  std::uint64_t dropped = 0;
  std::uint64_t expired = 0;
  std::uint64_t cut = 0;
  std::uint64_t quarantined = 0;
  std::uint64_t gaps = 0;
  std::uint64_t repeats = 0;
  bool operator==(const AuditCounts&) const = default;

  // Invariants 1 and 2.
  bool sum_holds() const;
  // The sum holds without gaps and repeats, and nothing was cut or quarantined: what `sluice audit` answers with 0.
  bool clean() const;
  std::uint64_t sent() const;
};

// Every category. The order is that of the store's columns and of the kept table's entries: never change it.
inline constexpr std::array kAuditCategories = {
    &AuditCounts::data,    &AuditCounts::committed_halves, &AuditCounts::rolled_back,
    &AuditCounts::open,    &AuditCounts::delayed,          &AuditCounts::aborted,
    &AuditCounts::fenced,  &AuditCounts::dropped,          &AuditCounts::expired,
    &AuditCounts::cut,     &AuditCounts::quarantined,      &AuditCounts::gaps,
    &AuditCounts::repeats,
};

struct AuditRow {
  ProducerId producer;
  std::string name;  // empty: anonymous
  AuditCounts counts;
  bool operator==(const AuditRow&) const = default;
};

// One partition's rows, and what named producers need: last sequence and bookmark.
class PartitionAudit {
 public:
  // The next sequence that is expected of this producer: also the sequence of an abort.
  Sequence next_sequence(ProducerId producer) const;
  // An unknown producer starts at 1. A sequence above the next one leaves a gap, one below is a repeat.
  void on_data(ProducerId producer, Sequence sequence);
  // Accepted for later: counted as delayed for ever, for its delivery is no record of the producer's.
  void on_delayed(ProducerId producer, Sequence sequence);
  // A message of a transaction: open until it is decided.
  void on_half(ProducerId producer, Sequence sequence);
  void on_decided(ProducerId producer, bool commit);
  // A claim that was aborted: consumes next_sequence, which is returned.
  Sequence on_abort(ProducerId producer);
  void on_quarantined(ProducerId producer, Sequence sequence);
  void on_fenced(ProducerId producer, Sequence sequence);
  // Messages that were counted as data and went unread since: at most as many as are counted as data are moved.
  void on_dropped(ProducerId producer, std::uint64_t count);
  void on_expired(ProducerId producer, std::uint64_t count);
  // After lost memory: the client had claimed up to `last`; what is above sequence_last was cut. Returns the row as it
  // is then; nothing for a producer whose row may have been folded by fold_former(): what it had sent is not known any
  // more.
  std::optional<AuditRow> on_reported(ProducerId producer, Sequence last);
  // A new id takes over from an old one under the same name: its sequences continue at `next`.
  void on_attach(ProducerId producer, std::string name, Sequence next);

  // All that it claimed here is counted, and nothing more comes of it. The newest kAuditEndedRowsMax of such anonymous
  // producers keep their rows.
  void on_ended(ProducerId producer);
  // At a start: of the anonymous producers' rows the newest kAuditFormerRowsMax stay.
  void fold_former();
  std::uint64_t folds() const { return folds_; }  // rows folded by this object

  std::vector<AuditRow> rows() const;
  // True if every row is clean().
  bool holds() const;
  // For snapshots in the store and the restart from them.
  void restore(const AuditRow& row);

 private:
  // The row used last: runs of one producer need no lookup. Points into rows_, so a copy starts without.
  struct LastUsed {
    AuditRow* row = nullptr;
    LastUsed() = default;
    LastUsed(const LastUsed&) {}
    LastUsed& operator=(const LastUsed&) {
      row = nullptr;
      return *this;
    }
  };

  AuditRow& row(ProducerId producer);
  void count(ProducerId producer, Sequence sequence, std::uint64_t AuditCounts::*category);
  void move(ProducerId producer, std::uint64_t count, std::uint64_t AuditCounts::*from,
            std::uint64_t AuditCounts::*category);
  void fold(ProducerId producer);

  std::map<ProducerId, AuditRow> rows_;
  std::deque<ProducerId> ended_;  // that still have their rows
  ProducerId former_folded_;      // the highest that fold_former() has folded
  std::uint64_t folds_ = 0;
  LastUsed last_used_;
};

}  // namespace sluice::core
