// Room that the store has put by for a disk that is full: a file beside the database, given back to the file system a
// step at a time when a commit finds no room. So a start can note that it was, and an operator can shorten a topic's
// retention, on a disk on which nothing else goes on.
//
// Owner: Database, on the bus thread.
//
// Invariants
//  1. It is an aid: what goes wrong with it is no error of the store.
//  2. It is put by only where twice as much is free, so that it never takes the room that somebody waits for.
#pragma once

#include <cstdint>
#include <string>

namespace sluice::store {

inline constexpr std::uint64_t kReserveSize = 4 * 1024 * 1024;
inline constexpr std::uint64_t kReserveStep = 1024 * 1024;  // given back at a time
inline constexpr std::uint64_t kReserveRetryNs = 10'000'000'000;

class Reserve {
 public:
  explicit Reserve(std::string path) : path_(std::move(path)) {}

  // Puts by what is missing, if there is room.
  void fill();
  // The same, but looks at most every kReserveRetryNs, and only after spend().
  void fill_again();
  // Gives a step back. False: there is nothing left.
  bool spend();
  // Of the file as it is.
  std::uint64_t size() const;

 private:
  bool try_fill() const;

  const std::string path_;
  bool missing_ = false;
  std::uint64_t retry_at_ns_ = 0;  // monotonic
};

}  // namespace sluice::store
