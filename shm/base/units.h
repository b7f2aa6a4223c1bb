// Durations and sizes as people write them: "250ms 5s 2m 1h 3d", "64KiB 16MiB 1GiB". One spelling everywhere:
// configuration, command lines, output. Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "shm/base/result.h"

namespace sluice {

// A whole number and one of ns us ms s m h d, without a space between; "0" needs no unit. Returns ns.
// invalid: anything else, and what does not fit 63 bits of ns (292 years).
Result<std::uint64_t> parse_duration(std::string_view text);
// A whole number and one of B KiB MiB GiB TiB, without a space between; without a unit it is bytes. Returns bytes.
// invalid: anything else (kB and MB too: they mean two things), and what does not fit 63 bits.
Result<std::uint64_t> parse_size(std::string_view text);

// Exactly, in the largest unit that divides it: 90s is "90s", 120s is "2m". parse_duration() reads it back.
std::string format_duration(std::uint64_t ns);
std::string format_size(std::uint64_t bytes);

}  // namespace sluice
