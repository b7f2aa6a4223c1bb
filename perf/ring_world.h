// One measurement: two processes, each pinned to a core, and a daemon that reclaims slots as in real use.
//
// The parent makes the partitions, forks the two, and plays the daemon: it sleeps on its eventfd, is called by who
// crosses a segment or is out of room, retires what the reader is past, and prepares ahead of the log's end.
#pragma once

#include <cstdint>
#include <string>

#include "perf/ring_floor.h"

namespace sluice::perf {

enum class Shape : std::uint8_t {
  stream,         // one producer → one consumer
  round_trip,     // there over one partition, back over another
  two_producers,  // on one partition, nobody reads
};

struct Setting {
  std::string name;
  Shape shape = Shape::stream;
  std::uint32_t payload_size = 64;
  std::uint32_t flags = 0;  // kTopicFlag…
  bool time = false;        // coarse time in every record
  std::uint64_t messages = 0;
};

struct Measured {
  double messages_per_s = 0;  // streams
  Percentiles trip;           // round trips
  Percentiles floor;          // raw round trip of a line, in the same processes, before and after
  double copy_bytes_per_s = 0;
  std::uint64_t no_room = 0;  // times that a producer found the ring full
};

// Empty `error`: `measured` is filled.
struct Outcome {
  std::string error;
  Measured measured;
};
Outcome measure(const Setting& setting);

}  // namespace sluice::perf
