// libFuzzer: arbitrary bytes through everything that reads a segment: its header, record headers, trailers and their
// entries, checksums. The sanitizers are the judge; the checks here are the bounds that callers rely on.
//
// The first byte chooses where the segment's end is; the rest are the segment's bytes.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "shm/layout/record.h"
#include "shm/layout/segment.h"
#include "shm/layout/trailer.h"

namespace {

using namespace sluice;
using namespace sluice::layout;

void require(bool condition) {
  if (!condition) std::abort();
}

void read_trailer(std::span<const std::byte> trailer) {
  TrailerReader reader(trailer);
  while (auto entry = reader.next()) {
    require(entry->bytes.data() >= trailer.data());
    require(entry->bytes.data() + entry->bytes.size() <= trailer.data() + trailer.size());
    static_cast<void>(as_header(entry->bytes));
    static_cast<void>(as_u64(entry->bytes));
    static_cast<void>(as_fence(entry->bytes));
  }
}

// Bytes that a walk over the segment moves on by; 0: it halts.
std::uint64_t read_record(const std::byte* at, std::uint64_t room, Position position) {
  RecordFields fields;
  const HeaderCheck check = read_header(at, room, fields);
  if (check == HeaderCheck::free || check == HeaderCheck::claimed || check == HeaderCheck::corrupt) return 0;
  require(fields.claim.span_size() != 0 && fields.claim.span_size() <= room);
  if (check == HeaderCheck::record) {
    const std::uint32_t size = trailer_size(at, fields);
    if (size != kTrailerSizeInvalid) {
      require(trailer_offset(fields.payload_size) + size <= fields.claim.span_size() || size == 0);
      static_cast<void>(checksum_matches(at, fields, size, position, 0x1234));
      if (size != 0) read_trailer({at + trailer_offset(fields.payload_size), size});
    }
  }
  return fields.claim.span_size();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1 + kSegmentHeaderSize) return 0;
  const std::uint64_t bytes = (size - 1) / kRecordAlignment * kRecordAlignment;
  // Memory that ends where the segment does, so that AddressSanitizer sees a read behind it.
  struct Aligned {
    void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  const std::unique_ptr<std::byte, Aligned> segment(
      static_cast<std::byte*>(::operator new (bytes, std::align_val_t{64})));
  std::memcpy(segment.get(), data + 1, bytes);
  SegmentHeader header;
  static_cast<void>(read_segment_header(segment.get(), header));
  static_cast<void>(read_segment_header(segment.get(), TopicId(1), 2, SegmentNumber(3), header));
  read_trailer({segment.get(), bytes});
  const std::uint64_t end = bytes - std::min<std::uint64_t>(bytes, data[0] % 4 * kRecordAlignment);
  for (std::uint64_t at = kSegmentHeaderSize; at < end;) {
    const std::uint64_t span = read_record(segment.get() + at, end - at, Position(at));
    at += span == 0 ? kRecordAlignment : span;
  }
  return 0;
}
