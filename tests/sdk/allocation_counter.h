// Counts calls of operator new in this program, to show that the steady state makes none.
#pragma once

#include <cstdint>

namespace sluice::test {
// Of the calling thread, since it started.
std::uint64_t allocations();
}  // namespace sluice::test
