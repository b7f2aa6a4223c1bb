// The random numbers of a simulation: the same seed gives the same numbers on every machine and library.
// splitmix64 (Steele, Lea, Flood 2014). Thread safety: none, like any value.
#pragma once

#include <cstdint>

namespace sluice::io {

class SimRandom {
 public:
  explicit SimRandom(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t mixed = (state_ += 0x9e3779b97f4a7c15u);
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
  }
  // 0 to limit − 1; 0 if limit is 0. The bias of the remainder does not matter here.
  std::uint64_t below(std::uint64_t limit) { return limit == 0 ? 0 : next() % limit; }
  bool coin() { return (next() >> 63) != 0; }

 private:
  std::uint64_t state_;
};

}  // namespace sluice::io
