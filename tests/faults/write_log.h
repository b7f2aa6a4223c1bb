// What a device was asked to write, in order, as QEMU's blklogwrites keeps it (the format of Linux's dm-log-writes):
// and from that, what a power loss at any moment could leave on it.
//
// A request is in the log before it is answered, and a flush makes durable what was answered before it: so a state is
// all that stands before the last flush of a prefix, and any part of what the prefix has behind that flush.
#pragma once

#include <cstdint>
#include <filesystem>
#include <random>
#include <span>
#include <vector>

#include "shm/base/fd.h"

namespace sluice::test {

// How much of the writes behind the last flush is left.
enum class Survivors : std::uint8_t { all, some_writes, some_sectors };
inline constexpr std::uint32_t kSurvivorsCount = 3;

class WriteLog {
 public:
  // Reads the first `size` bytes of the log; an entry that goes beyond them is left out. Throws if it is none.
  WriteLog(const std::filesystem::path& file, std::uint64_t size);

  std::size_t size() const { return entries_.size(); }
  std::uint64_t flushes() const { return flushes_; }
  // Byte of the log at which the entry begins: all that the log held when it had that size is in a prefix of so many
  // entries. `index` may be size().
  std::uint64_t begin_of(std::size_t index) const { return index < entries_.size() ? entries_[index].begin : end_; }

 private:
  friend class PowerLoss;
  struct Entry {
    std::uint64_t begin = 0;   // in the log
    std::uint64_t data = 0;    // in the log
    std::uint64_t offset = 0;  // on the device
    std::uint64_t size = 0;
    bool flush = false;
    bool discard = false;
  };
  UniqueFd file_;
  std::vector<Entry> entries_;
  std::uint64_t end_ = 0;
  std::uint64_t flushes_ = 0;
};

// The states of one log over the image that it began with.
class PowerLoss {
 public:
  PowerLoss(const WriteLog& log, std::vector<std::byte> image) : log_(log), flushed_(std::move(image)) {}

  // Writes to `image` (as large as the first one) what is left after the first `entries` entries. From one call to the
  // next `entries` does not go back.
  void make(std::size_t entries, Survivors survivors, std::mt19937_64& random, std::span<std::byte> image);

 private:
  void apply(const WriteLog::Entry& entry, std::span<std::byte> image, Survivors survivors, std::mt19937_64& random);

  const WriteLog& log_;
  std::vector<std::byte> flushed_;  // all that stands before entry flushed_count_
  std::size_t flushed_count_ = 0;
  std::vector<std::byte> buffer_;
};

}  // namespace sluice::test
