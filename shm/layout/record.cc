#include "shm/layout/record.h"

#include <bit>

#include "shm/base/checksum.h"

namespace sluice::layout {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

std::uint32_t content_checksum(const void* payload, std::size_t payload_size, const void* trailer,
                               std::size_t trailer_size) {
  std::uint32_t crc = crc32c(0, payload, payload_size);
  if (trailer_size != 0) crc = crc32c(crc, trailer, trailer_size);
  return crc;
}

std::uint32_t record_checksum(std::uint32_t content, const RecordFields& fields, Position position,
                              std::uint32_t segment_checksum) {
  std::uint32_t crc = crc32c_u64(content, fields.claim.bits);
  crc = crc32c_u64(crc, fields.sequence.value);
  crc = crc32c_u64(crc, fields.time_ns);
  crc = crc32c_u64(crc, fields.payload_size | (std::uint64_t{segment_checksum} << 32));
  return crc32c_u64(crc, position.value);
}

bool checksum_matches(const std::byte* at, const RecordFields& fields, std::uint32_t trailer_size, Position position,
                      std::uint32_t segment_checksum) {
  const std::uint32_t content = content_checksum(at + kRecordHeaderSize, fields.payload_size,
                                                 at + trailer_offset(fields.payload_size), trailer_size);
  return record_checksum(content, fields, position, segment_checksum) == fields.checksum;
}

}  // namespace sluice::layout
