#include "shm/layout/record.h"

#include <bit>
#include <cstring>

#include "shm/base/checksum.h"
#include "shm/base/limits.h"

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

HeaderCheck read_header(const std::byte* at, std::uint64_t room, RecordFields& fields) {
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

std::uint32_t trailer_size(const std::byte* at, const RecordFields& fields) {
  if (!fields.claim.has_trailer()) return 0;
  const std::uint64_t start = trailer_offset(fields.payload_size);
  std::uint32_t size;
  std::memcpy(&size, at + start, sizeof size);
  if (size < 4 || size % 4 != 0 || size > kTrailerSizeMax || start + size > fields.claim.span_size())
    return kTrailerSizeInvalid;
  return size;
}

bool checksum_matches(const std::byte* at, const RecordFields& fields, std::uint32_t trailer_size, Position position,
                      std::uint32_t segment_checksum) {
  const std::uint32_t content = content_checksum(at + kRecordHeaderSize, fields.payload_size,
                                                 at + trailer_offset(fields.payload_size), trailer_size);
  return record_checksum(content, fields, position, segment_checksum) == fields.checksum;
}

}  // namespace sluice::layout
