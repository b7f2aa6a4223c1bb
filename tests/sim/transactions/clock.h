// The clocks of shm/base/clock.h as a simulation has them: they go on when it says so. Linked in the place of
// shm/base/clock.cc; who sleeps in this process moves them, too.
//
// Owner: the simulation's one thread.
#pragma once

#include <cstdint>

namespace sluice::transactions::sim {

void set_clock(std::uint64_t monotonic);
void advance_clock(std::uint64_t ns);

}  // namespace sluice::transactions::sim
