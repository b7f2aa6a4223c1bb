// The hash of a message's key: which partition it belongs to, and what strict groups hold back behind it. This must
// never change: a key's messages are in order only as long as every program, of whatever version, hashes them alike.
//
//   hash      = FNV-1a, 64 bits, over the key's bytes: start 0xcbf29ce484222325, for each byte: hash ^= byte,
//               hash *= 0x100000001b3 (modulo 2^64)
//   finalise    hash ^= hash >> 33; hash *= 0xff51afd7ed558ccd; hash ^= hash >> 33; hash *= 0xc4ceb9fe1a85ec53;
//               hash ^= hash >> 33 (the finaliser of MurmurHash3: FNV's low bits alone spread short keys badly)
//
// Thread safety: pure function.
#pragma once

#include <cstdint>
#include <string_view>

namespace sluice {

constexpr std::uint64_t key_hash(std::string_view key) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : key) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3;
  }
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccd;
  hash ^= hash >> 33;
  hash *= 0xc4ceb9fe1a85ec53;
  hash ^= hash >> 33;
  return hash;
}

}  // namespace sluice
