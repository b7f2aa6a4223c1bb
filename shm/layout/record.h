// A record: header, payload, trailer; the same bytes in memory and on disk (docs/FORMAT.md).
//
// Invariants
//  1. A record starts at a multiple of 64 bytes and lies in one segment.
//  2. Its checksum covers payload, trailer, final claim word, the header's fields, its position and its segment
//  header's
//     checksum: bytes of another place, topic, incarnation or of a reused file never pass.
//  3. A record whose state is aborted, or whose kind is pad, has payload size 0 and no trailer once it is on disk.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "shm/base/limits.h"
#include "shm/base/types.h"
#include "shm/layout/claim_word.h"

namespace sluice::layout {

struct RecordHeader {
  std::atomic<std::uint64_t> claim;  // owner writes, the daemon may abort; see ClaimWord and shm/ring/appender.h
  std::uint64_t sequence;            // owner; contiguous per producer and partition, from 1
  std::uint64_t time_ns;             // owner; since the epoch, 0 where the topic has no time
  std::uint32_t payload_size;        // owner; bytes
  std::uint32_t checksum;            // owner; CRC-32C, 0 where the topic has none

  RecordHeader(const RecordHeader&) = delete;
  RecordHeader& operator=(const RecordHeader&) = delete;
};
inline constexpr std::uint64_t kRecordHeaderSize = 32;
static_assert(std::is_standard_layout_v<RecordHeader>);
static_assert(sizeof(RecordHeader) == kRecordHeaderSize);
static_assert(offsetof(RecordHeader, claim) == 0);
static_assert(offsetof(RecordHeader, sequence) == 8);
static_assert(offsetof(RecordHeader, time_ns) == 16);
static_assert(offsetof(RecordHeader, payload_size) == 24);
static_assert(offsetof(RecordHeader, checksum) == 28);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

// A header's fields, copied once out of memory that others may write.
struct RecordFields {
  ClaimWord claim;
  Sequence sequence;
  std::uint64_t time_ns = 0;
  std::uint32_t payload_size = 0;
  std::uint32_t checksum = 0;
};

constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}
// Where the trailer starts, from the record's start.
constexpr std::uint64_t trailer_offset(std::uint64_t payload_size) {
  return kRecordHeaderSize + align_up(payload_size, 8);
}
// The whole length, a multiple of 64. `trailer_size` 0: none.
constexpr std::uint64_t record_span(std::uint64_t payload_size, std::uint64_t trailer_size) {
  return align_up(trailer_size == 0 ? kRecordHeaderSize + payload_size : trailer_offset(payload_size) + trailer_size,
                  kRecordAlignment);
}

// The part of the checksum over what the caller gives: start of every record's checksum. Taken before the claim.
std::uint32_t content_checksum(const void* payload, std::size_t payload_size, const void* trailer,
                               std::size_t trailer_size);
// Continues a content checksum over the record's final word, fields and place.
std::uint32_t record_checksum(std::uint32_t content, const RecordFields& fields, Position position,
                              std::uint32_t segment_checksum);

// What a header says when it is read at a place with `room` bytes to the end of what may be read there.
enum class HeaderCheck : std::uint8_t {
  free,       // nothing claimed here yet
  claimed,    // claimed, not final
  skip,       // final, carries nothing: abort or pad
  record,     // committed, with payload; sizes are within the span
  corrupt,    // an impossible word or size; the span must not be trusted
  bad_sizes,  // the span is possible, but payload or trailer do not fit it: skip the span, and say so
};
// Reads the claim word (acquire: pairs with the commit's release; publishes fields and payload), copies the fields
// once, and checks them. On claimed, skip, record and bad_sizes `fields.claim` has a usable span.
inline HeaderCheck read_header(const std::byte* at, std::uint64_t room, RecordFields& fields) {
  if (room < kRecordAlignment) return HeaderCheck::corrupt;
  const auto* header = reinterpret_cast<const RecordHeader*>(at);
  // acquire: pairs with the release in Appender::commit; what the owner wrote before is visible from here on.
  fields.claim = ClaimWord{header->claim.load(std::memory_order_acquire)};
  if (fields.claim.is_free()) return HeaderCheck::free;
  if (!fields.claim.is_possible(room)) return HeaderCheck::corrupt;
  if (fields.claim.is_claimed()) return HeaderCheck::claimed;
  if (fields.claim.state() == RecordState::aborted || fields.claim.kind() == RecordKind::pad) return HeaderCheck::skip;
  fields.sequence = Sequence(header->sequence);
  fields.time_ns = header->time_ns;
  fields.payload_size = header->payload_size;
  fields.checksum = header->checksum;
  const std::uint64_t span = fields.claim.span_size();
  const std::uint64_t content = fields.claim.has_trailer() ? trailer_offset(fields.payload_size) + 4
                                                           : kRecordHeaderSize + std::uint64_t{fields.payload_size};
  return content <= span ? HeaderCheck::record : HeaderCheck::bad_sizes;
}

// Bytes of the trailer, 0 if there is none; −1 as UINT32_MAX if its size field does not fit the span. Copies once.
inline constexpr std::uint32_t kTrailerSizeInvalid = 0xffff'ffff;
inline std::uint32_t trailer_size(const std::byte* at, const RecordFields& fields) {
  if (!fields.claim.has_trailer()) return 0;
  const std::uint64_t start = trailer_offset(fields.payload_size);
  std::uint32_t size;
  std::memcpy(&size, at + start, sizeof size);
  if (size < 4 || size % 4 != 0 || size > kTrailerSizeMax || start + size > fields.claim.span_size())
    return kTrailerSizeInvalid;
  return size;
}

// True if the record's bytes at `at` match its checksum. `trailer_size` as returned above, and valid.
bool checksum_matches(const std::byte* at, const RecordFields& fields, std::uint32_t trailer_size, Position position,
                      std::uint32_t segment_checksum);

}  // namespace sluice::layout
