// The index beside a log file: what its segments hold, and where its data ends. Bytes: docs/FORMAT.md, Index file.
//
// Owner: the bus thread, through PartitionLog. Everything in it can be had from the log file by scanning, so nothing is
// lost with it; what it saves is that scan.
//
// Invariants
//  1. An entry is written only after everything below its segment's end is durable: it bounds the durable position.
//  2. After a `closed` entry the log file never changes.
//  3. Every entry's checksum continues the header's, which names the place: entries of another file never pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "daemon/io/disk.h"
#include "daemon/log/partition_log.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::log {

inline constexpr std::uint64_t kIndexMagic = 0x31'58'44'49'43'55'4c'53;  // "SLUCIDX1"
inline constexpr std::uint32_t kIndexVersion = 1;

struct IndexHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t topic_id;
  std::uint32_t partition;
  std::uint32_t segments_per_file;
  std::uint64_t base;
  std::uint64_t segment_size;
  std::uint32_t reserved[5];  // 0
  std::uint32_t checksum;     // CRC-32C of the 60 bytes before
};
static_assert(std::is_standard_layout_v<IndexHeader> && std::has_unique_object_representations_v<IndexHeader>);
static_assert(sizeof(IndexHeader) == 64 && offsetof(IndexHeader, base) == 24 && offsetof(IndexHeader, checksum) == 60);

enum class IndexEntryKind : std::uint32_t { segment = 1, closed = 2, damaged = 3 };
struct IndexEntry {
  std::uint32_t kind;      // IndexEntryKind; others are passed over
  std::uint32_t checksum;  // of the entry with this field zero, continued from the header's
  std::uint64_t first;     // segment number | end of data | begin
  std::uint64_t second;    // records (32 bits) and refers_back << 32 | records of the file | end
  std::uint64_t third;     // running maximum of times | same | DamageReason
};
static_assert(std::is_standard_layout_v<IndexEntry> && std::has_unique_object_representations_v<IndexEntry>);
static_assert(sizeof(IndexEntry) == 32 && offsetof(IndexEntry, first) == 8);

enum class DamageReason : std::uint64_t {
  segment_header = 1,
  claim_word = 2,
  sizes = 3,
  checksum = 4,
  missing = 5,
  unrecognised = 6,
};
// For messages: "a record's checksum does not match".
std::string text(DamageReason reason);

struct Damage {
  Position begin;
  Position end;
  DamageReason reason = DamageReason::missing;
  bool operator==(const Damage&) const = default;
};

// Which file an index belongs to.
struct IndexKey {
  TopicId topic;
  PartitionNumber partition = 0;
  Position base;
  std::uint64_t segment_size = 0;
  std::uint32_t segments_per_file = 0;
};

struct IndexClosed {
  Position data_end;
  std::uint64_t records = 0;
  std::uint64_t time_max_ns = 0;
};

struct IndexContent {
  bool present = false;                  // there is a header, and it is this file's
  bool garbled = false;                  // there is a file, and it is not an index of this file
  bool intact = false;                   // every byte holds: more can be appended behind `entries` entries
  std::uint64_t entries = 0;             // read
  std::vector<SegmentSummary> segments;  // ascending
  std::vector<Damage> damaged;
  std::optional<IndexClosed> closed;
};

// Missing or not this file's: an empty content. Errors: version (a newer format), io.
Result<IndexContent> read_index(io::Disk& disk, const std::string& directory, const IndexKey& key);
// Writes the index as a whole, in place of what is there.
Status write_index(io::Disk& disk, const std::string& directory, const IndexKey& key, const IndexContent& content);
// Writes segments behind the first `entries` entries of an index that is intact; makes it if `entries` is 0.
Status append_index(io::Disk& disk, const std::string& directory, const IndexKey& key, std::uint64_t entries,
                    const IndexContent& added);

}  // namespace sluice::log
