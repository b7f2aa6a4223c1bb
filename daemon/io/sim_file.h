// The bytes of one simulated file: what a reader sees now, what is on stable storage, and what lies between them.
//
// Owner: the SimMedia that holds it, on the simulation's one thread. The fault model is in sim_disk.h; here are its
// rules for one file.
//
// A change (a write, a growth, a cut) goes through these states:
//
//     in_flight ──complete()──► syncable ──make_durable()──► (gone: part of the stable bytes)
//         │         (a resize starts here)  │
//         │                             abandon()
//         ▼                                 ▼
//        power_loss(): kept, dropped or torn, from each of them
//
// Invariants
//  1. Changes are ordered by their number, the order of submission.
//  2. A change that became durable is never undone by an older one: where they overlap, the older one's sectors are
//     struck out at that moment.
//  3. Sizes become durable in their order, and before anything younger does (as in a journalling file system).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "daemon/io/sim_random.h"

namespace sluice::io {

// What the disk writes in one piece: old or new, never a mixture.
inline constexpr std::uint64_t kSimSectorSize = 512;
inline constexpr std::uint64_t kSimBlockSize = 4096;

// Bytes with holes; a hole reads as zeros.
class SparseBytes {
 public:
  using Block = std::array<std::byte, kSimBlockSize>;

  std::uint64_t size() const { return size_; }
  const std::map<std::uint64_t, Block>& blocks() const { return blocks_; }  // by block number
  // Returns the number of bytes read: fewer than asked for at the end.
  std::size_t read(std::uint64_t offset, std::span<std::byte> into) const;
  // Grows as needed.
  void write(std::uint64_t offset, std::span<const std::byte> bytes);
  // What is cut off comes back as zeros.
  void resize(std::uint64_t size);
  // Changes one bit of a byte below size().
  void flip(std::uint64_t offset, unsigned bit);

 private:
  std::uint64_t size_ = 0;
  std::map<std::uint64_t, Block> blocks_;
};

class SimFile {
 public:
  using ChangeNumber = std::uint64_t;

  // ---- what a reader sees
  std::uint64_t size() const { return current_.size(); }
  const SparseBytes& current() const { return current_; }
  const SparseBytes& durable() const { return durable_; }
  // Blocks that this file takes of the disk's capacity.
  std::uint64_t used_blocks() const;
  // The same if [offset, offset + size) were written too.
  std::uint64_t used_blocks_after_write(std::uint64_t offset, std::uint64_t size) const;
  std::uint64_t used_blocks_after_reserve(std::uint64_t size) const;

  // ---- changes
  void reserve(std::uint64_t size);  // allocate: never shrinks
  void truncate(std::uint64_t size);
  // A write that has begun. Its bytes are kept here; what the caller's memory holds later does not count.
  ChangeNumber begin_write(std::uint64_t offset, std::span<const std::byte> bytes);
  // The write was carried out as far as its first `size` bytes: readers see them, and a sync covers them from now on.
  void complete(ChangeNumber number, std::uint64_t size);
  // The write failed: any of its sectors may be there.
  void complete_failed(ChangeNumber number, SimRandom& random);
  bool in_flight_overlaps(std::uint64_t offset, std::uint64_t size) const;
  std::span<const std::byte> bytes_of(ChangeNumber number) const;

  // ---- stable storage
  // The changes that a sync submitted now covers.
  std::vector<ChangeNumber> syncable() const;
  void make_durable(std::span<const ChangeNumber> numbers);
  // Their sync failed: no later one covers them.
  void abandon(std::span<const ChangeNumber> numbers);
  // Keeps, drops or tears each change that is not durable; what is then there is what a reader sees.
  void power_loss(SimRandom& random);
  void flip(std::uint64_t offset, unsigned bit);

 private:
  enum class Kind : std::uint8_t { write, grow, cut };
  enum class State : std::uint8_t { in_flight, syncable, abandoned };
  struct Change {
    ChangeNumber number = 0;
    Kind kind = Kind::write;
    State state = State::in_flight;
    std::uint64_t offset = 0;      // write
    std::vector<std::byte> bytes;  // write
    std::vector<bool> struck_out;  // write: per sector, not to be kept any more
    std::uint64_t size = 0;        // grow: at least; cut: exactly
  };

  Change& at(ChangeNumber number);
  void add_resize(Kind kind, std::uint64_t size);
  void make_one_durable(ChangeNumber number);
  void strike_out(ChangeNumber older_than, std::uint64_t from, std::uint64_t to);
  void apply(const Change& change, SparseBytes& to) const;
  static void resize(const Change& change, SparseBytes& to);

  SparseBytes current_;
  SparseBytes durable_;
  std::uint64_t reserved_blocks_ = 0;
  ChangeNumber next_number_ = 1;
  std::map<ChangeNumber, Change> pending_;
};

}  // namespace sluice::io
