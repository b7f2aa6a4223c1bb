#include "shm/base/checksum.h"

#include <isa-l/crc.h>

#include <climits>

namespace sluice {

std::uint32_t crc32c_long(std::uint32_t crc, const void* data, std::size_t size) {
  // isa-l takes a mutable pointer and an int length, and does not invert.
  auto* p = static_cast<unsigned char*>(const_cast<void*>(data));
  std::uint32_t state = ~crc;
  while (size != 0) {
    const int step = size > INT_MAX ? INT_MAX : static_cast<int>(size);
    state = crc32_iscsi(p, step, state);
    p += step;
    size -= static_cast<std::size_t>(step);
  }
  return ~state;
}

}  // namespace sluice
