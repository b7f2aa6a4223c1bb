#include "shm/layout/segment.h"

#include <cstring>

#include "shm/base/checksum.h"

namespace sluice::layout {

SegmentHeader make_segment_header(TopicId topic, PartitionNumber partition, SegmentNumber segment,
                                  Incarnation incarnation, Position durable, bool checksums) {
  SegmentHeader header{};
  header.magic = kSegmentMagic;
  header.version = kSegmentVersion;
  header.topic_id = topic.value;
  header.partition = partition;
  header.segment_number = segment.value;
  header.incarnation = incarnation.value;
  header.durable_position = durable.value;
  header.flags = checksums ? kSegmentFlagChecksums : 0;
  header.checksum = crc32c(0, &header, offsetof(SegmentHeader, checksum));
  return header;
}

SegmentCheck read_segment_header(const std::byte* at, SegmentHeader& header) {
  std::memcpy(&header, at, sizeof header);
  if (header.checksum != crc32c(0, &header, offsetof(SegmentHeader, checksum)) || header.magic != kSegmentMagic) {
    static constexpr SegmentHeader kZero{};
    return std::memcmp(&header, &kZero, sizeof header) == 0 ? SegmentCheck::empty : SegmentCheck::corrupt;
  }
  return header.version == kSegmentVersion ? SegmentCheck::ok : SegmentCheck::newer_version;
}

SegmentCheck read_segment_header(const std::byte* at, TopicId topic, PartitionNumber partition, SegmentNumber segment,
                                 SegmentHeader& header) {
  const SegmentCheck check = read_segment_header(at, header);
  if (check != SegmentCheck::ok) return check;
  const bool here =
      header.topic_id == topic.value && header.partition == partition && header.segment_number == segment.value;
  return here ? SegmentCheck::ok : SegmentCheck::corrupt;
}

}  // namespace sluice::layout
