// Which partition a key belongs to: its hash (shm/base/key_hash.h) modulo the number of partitions.
//
// Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <string_view>

#include "shm/base/key_hash.h"
#include "shm/base/types.h"

namespace sluice::internal {

using sluice::key_hash;

constexpr PartitionNumber partition_of_key(std::string_view key, std::uint32_t partitions) {
  return static_cast<PartitionNumber>(key_hash(key) % partitions);
}

}  // namespace sluice::internal
