// Walking over a partition's records inside the daemon, wherever their bytes are: in memory, or in log files.
//
// Owner: the bus thread; for one call of its caller, in which nothing is retired or written. Nothing that producers
// could have written is trusted (shm/ring/scanner.h); what fails its checks is passed over.
//
// Cost: files are read in chunks that begin small and double, so that one record costs one small read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "daemon/spill/partition.h"
#include "shm/base/result.h"
#include "shm/base/types.h"
#include "shm/ring/scanner.h"

namespace sluice::bus {

class LogWalker {
 public:
  // From `from` on (a segment's start, or a record's start or end), below `end`.
  // `now_ns` (wall clock): what has expired by then is passed over, whole segments of it unread.
  LogWalker(spill::Partition& partition, Position from, Position end, std::uint64_t now_ns)
      : partition_(partition), at_(from), end_(end), now_ns_(now_ns) {}

  // The next record that consumers see, valid until the next call: a message, or a ref to a delayed one. False: there
  // is none below the end. io: its file cannot be read.
  Result<bool> next(ring::RecordView& record);
  // Whatever stands at the position, if it is a record that holds.
  Result<bool> raw(ring::RecordView& record) {
    raw_ = true;
    return next(record);
  }
  // Everything below was looked at.
  Position position() const { return at_; }

 private:
  // Makes view_ cover the position, or moves it to where there is data. False: at the end.
  Result<bool> place();
  Result<bool> place_in_file();
  Result<bool> load(std::uint64_t size);
  bool is_for_consumers(const ring::RecordView& record);
  void leave_the_expired();

  spill::Partition& partition_;
  Position at_;
  const Position end_;
  const std::uint64_t now_ns_;
  bool raw_ = false;
  bool left_expired_ = false;
  bool placed_ = false;
  bool in_file_ = false;
  ring::SegmentView view_;
  std::uint64_t chunk_size_ = 0;
  Position data_end_;
  std::vector<std::byte> buffer_;
};

}  // namespace sluice::bus
