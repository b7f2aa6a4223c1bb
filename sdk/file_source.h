// Reading a partition's bytes that have left memory: a read-only mapping of its log file, walked by the same scanner.
//
// Owner: one PartitionStream. The mapping itself is shared with the messages that were read from it.
// Invariants
//  1. Bytes below view.limit were read in (MADV_POPULATE_READ), so that a read error of the disk is a Result here and
//  not
//     a SIGBUS there.
//  2. Nothing at or above the data end that the daemon named is looked at.
//  3. A segment is entered only if its header names exactly this topic, partition and segment.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "sdk/control_types.h"
#include "shm/base/result.h"
#include "shm/base/types.h"
#include "shm/layout/segment.h"
#include "shm/region/mapping.h"
#include "shm/ring/scanner.h"

namespace sluice::internal {

struct FileMap {
  region::Mapping mapping;
  Position base;      // position at the mapping's first byte
  Position data_end;  // positions below it may be read
};
using FileMapPtr = std::shared_ptr<const FileMap>;

class FileSource {
 public:
  // Read in at a time: long enough for the disk's full speed, short enough for the first record to come soon.
  static constexpr std::uint64_t kPopulateStepSize = 1024 * 1024;

  // `name` ("topic/partition") is for messages. `populate_step`: bytes read in at a time.
  FileSource(TopicId topic, PartitionNumber partition, std::uint32_t segment_shift, std::string name,
             std::uint64_t populate_step = kPopulateStepSize)
      : topic_(topic),
        partition_(partition),
        segment_shift_(segment_shift),
        name_(std::move(name)),
        populate_step_(populate_step) {}

  // Takes over what the daemon has located. corrupt if the answer cannot be right.
  Status open(LocateAnswer answer);
  void close();
  bool covers(Position position) const;
  const FileMapPtr& map() const { return map_; }

  // Makes a view of the segment that holds `position`, its first bytes read in. io: the disk failed. Anything but ok in
  // `check`: this segment cannot be read.
  Status enter(Position position, ring::SegmentView& view, layout::SegmentCheck& check);
  // Reads more of the view's segment in, so that at least the record at `position` fits if it is there. False at the
  // end of what may be read.
  Result<bool> extend(Position position, ring::SegmentView& view);

 private:
  Position segment_limit(const ring::SegmentView& view) const;
  Status populate(Position to);

  // Constant.
  const TopicId topic_;
  const PartitionNumber partition_;
  const std::uint32_t segment_shift_;
  const std::string name_;
  const std::uint64_t populate_step_;
  // The reader's thread.
  FileMapPtr map_;
  Position populated_;  // read in up to here, from the last enter() on
  Position stuck_at_;   // where the last extend() was asked for: twice the same place doubles the step
  std::uint64_t step_size_ = 0;
};

}  // namespace sluice::internal
