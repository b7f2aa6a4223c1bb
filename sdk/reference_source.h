// Finding what a `ref` record means: a message that stands at a lower position of the same partition, in memory or in a
// log file.
//
// Owner: one PartitionStream, on the reader's thread.
// Invariants
//  1. What find() gives lies under hold() until the next call, and under a reference that a message takes.
//  2. A reference is a hostile number until a whole, committed record that may be referred to was found at it.
//  3. One segment in memory is pinned at most, until rest().
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sdk/bus_link.h"
#include "sdk/file_source.h"
#include "sdk/hold.h"
#include "sdk/memory_source.h"
#include "shm/base/result.h"
#include "shm/ring/scanner.h"

namespace sluice::internal {

class ReferenceSource {
 public:
  // `name` ("topic/partition") is for messages.
  ReferenceSource(BusLink& link, HoldPool& pool, TopicId topic, PartitionNumber partition, std::uint32_t segment_shift,
                  const std::string& name);
  ReferenceSource(const ReferenceSource&) = delete;
  ~ReferenceSource();

  enum class Found : std::uint8_t {
    record,   // the view is filled
    not_yet,  // between memory and file, or the daemon is away: ask again
    gone,     // retention has taken it
    corrupt,  // reason(): nothing that may be referred to stands there
    failed,   // take_error()
  };
  // `ref`: where the record that refers stands.
  Found find(const MemorySource& memory, Position ref, Position reference, ring::RecordView& record);
  Hold* hold() const { return hold_; }
  bool in_file() const { return file_ != nullptr; }
  const std::string& reason() const { return reason_; }
  Error take_error() { return std::move(*error_); }

  // Nothing is pinned any more.
  void rest();
  // Nor is a file of the memory before looked at.
  void close();

 private:
  // Log files that stay mapped: a backlog's messages lie in few.
  static constexpr std::size_t kFilesMax = 4;
  struct File {
    FileSource source;
    Hold* hold = nullptr;
    std::uint64_t used = 0;  // the call that used it last
  };

  Found enter(const MemorySource& memory, Position reference);
  Found enter_file(Position reference);
  Found locate(Position reference);
  Found look(const MemorySource& memory, Position reference, ring::RecordView& record);
  Found mend(Position reference, std::string reason);
  File* covering(Position reference);
  Found corrupt(std::string reason);
  Found fail_with(Error error);

  // Constant.
  BusLink& link_;
  HoldPool& pool_;
  const TopicId topic_;
  const PartitionNumber partition_;
  const std::uint64_t segment_size_;
  // The reader's thread.
  std::array<std::optional<File>, kFilesMax> files_;
  Hold* memory_hold_ = nullptr;  // pins the segment of memory_view_
  ring::SegmentView memory_view_;
  File* file_ = nullptr;  // where the last one was found; null: in memory
  Hold* hold_ = nullptr;
  ring::SegmentView view_;
  std::uint64_t calls_ = 0;
  std::uint64_t locate_after_ns_ = 0;   // monotonic; the daemon had nothing a moment ago
  std::optional<Position> mend_asked_;  // the last place that the daemon was asked to see to
  bool mending_ = false;                // it has not answered that yet
  std::string reason_;
  std::optional<Error> error_;
};

}  // namespace sluice::internal
