// CRC-32C (Castagnoli), the checksum of every record, segment header and file header.
//
// `crc` is the running value: start with 0, feed what comes next, no final inversion is needed between calls (the
// functions invert on entry and exit, as in RFC 3720). Short inputs use the CRC instruction inline; long ones go to
// isa-l, which folds with carry-less multiplication. Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE4_2__)
#include <nmmintrin.h>
#endif

namespace sluice {

// Any length, any alignment. For inputs of kChecksumInlineSizeMax and more.
std::uint32_t crc32c_long(std::uint32_t crc, const void* data, std::size_t size);

inline constexpr std::size_t kChecksumInlineSizeMax = 256;

// Continues `crc` over one 64-bit word, little-endian.
inline std::uint32_t crc32c_u64(std::uint32_t crc, std::uint64_t word) {
#if defined(__SSE4_2__)
  return ~static_cast<std::uint32_t>(_mm_crc32_u64(~crc, word));
#else
  return crc32c_long(crc, &word, sizeof word);
#endif
}

inline std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t size) {
#if defined(__SSE4_2__)
  if (size <= kChecksumInlineSizeMax) {
    const char* p = static_cast<const char*>(data);
    std::uint64_t state = static_cast<std::uint32_t>(~crc);
    for (; size >= 8; size -= 8, p += 8) {
      std::uint64_t word;
      std::memcpy(&word, p, 8);
      state = _mm_crc32_u64(state, word);
    }
    std::uint32_t narrow = static_cast<std::uint32_t>(state);
    for (; size != 0; --size, ++p) narrow = _mm_crc32_u8(narrow, static_cast<unsigned char>(*p));
    return ~narrow;
  }
#endif
  return crc32c_long(crc, data, size);
}

}  // namespace sluice
