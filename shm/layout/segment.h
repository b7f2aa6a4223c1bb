// The first 64 bytes of every segment, in memory and on disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "shm/base/types.h"

namespace sluice::layout {

inline constexpr std::uint64_t kSegmentMagic = 0x31'47'45'53'43'55'4c'53;  // "SLUCSEG1"
inline constexpr std::uint32_t kSegmentVersion = 1;

// Written by the daemon when it prepares the segment, before the segment is ready; never changed after.
struct SegmentHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t topic_id;
  std::uint32_t partition;
  std::uint32_t reserved0;  // 0
  std::uint64_t segment_number;
  std::uint64_t incarnation;       // of the bus's memory that wrote this segment
  std::uint64_t durable_position;  // known when this segment was prepared: damage below it is rot, above it a torn tail
  std::uint64_t reserved1;         // 0
  std::uint32_t flags;             // bit 0: records carry checksums
  std::uint32_t checksum;          // CRC-32C of the 60 bytes before
};
inline constexpr std::uint64_t kSegmentHeaderSize = 64;
inline constexpr std::uint32_t kSegmentFlagChecksums = 1;
// On disk, behind the zeros of a header that was not written yet: the file was another log file before, and the bytes
// behind the data are that one's.
inline constexpr std::uint64_t kFormerUseMark = 0x44'45'53'55'43'55'4c'53;  // "SLUCUSED"
static_assert(std::is_standard_layout_v<SegmentHeader> && std::is_trivially_copyable_v<SegmentHeader>);
static_assert(std::has_unique_object_representations_v<SegmentHeader>);
static_assert(sizeof(SegmentHeader) == kSegmentHeaderSize);
static_assert(offsetof(SegmentHeader, version) == 8);
static_assert(offsetof(SegmentHeader, topic_id) == 12);
static_assert(offsetof(SegmentHeader, partition) == 16);
static_assert(offsetof(SegmentHeader, segment_number) == 24);
static_assert(offsetof(SegmentHeader, incarnation) == 32);
static_assert(offsetof(SegmentHeader, durable_position) == 40);
static_assert(offsetof(SegmentHeader, flags) == 56);
static_assert(offsetof(SegmentHeader, checksum) == 60);

SegmentHeader make_segment_header(TopicId topic, PartitionNumber partition, SegmentNumber segment,
                                  Incarnation incarnation, Position durable, bool checksums);

enum class SegmentCheck : std::uint8_t { ok, empty, newer_version, corrupt };
// Copies the header at `at` once (64 bytes readable) and checks magic, version, checksum. `empty`: all zero.
SegmentCheck read_segment_header(const std::byte* at, SegmentHeader& header);
// As above, and that it is the header of exactly this place.
SegmentCheck read_segment_header(const std::byte* at, TopicId topic, PartitionNumber partition, SegmentNumber segment,
                                 SegmentHeader& header);

}  // namespace sluice::layout
