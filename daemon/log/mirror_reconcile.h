// Makes the copies of a partition's directory equal before recovery looks at it.
//
// After an unclean stop the copies differ above the durable bound (each was torn in its own way), and one of them may
// have rotted, or lost a file, below it. For each range the copy that is intact there is taken: what is durable is on
// every good copy, so whatever one of them lacks was lost there; and a record above the bound that holds on any copy
// was written by the daemon from a final record, and may be kept.
//
// Owner: recovery, on the bus thread, with the files locked.
//
// Invariants
//  1. Only bytes that are not part of an intact record, or differ from those of the same intact record elsewhere, are
//     written over, and only with a record (or segment header) that holds. Nothing is removed but leftovers of files in
//     the making; an index that is none is set aside.
//  2. Any step may be repeated: a crash leaves directories from which this comes to the same outcome.
//  3. At a start, looked at is what recovery will scan (the segments without index entry, and those from scan_from on),
//  and every
//     file's presence, length and index. Rot in what is closed is the scrub's to find.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/io/mirror_disk.h"
#include "daemon/log/partition_log.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::log {

struct MirrorRepairs {
  std::uint64_t bytes = 0;
  std::vector<std::string> told;  // one line for each file that was mended
};

// A copy that cannot be read or mended is marked stale, unless it is the last good one. Errors: in_use, version, io.
Status reconcile(io::MirrorDisk& mirrors, const LogOptions& options, Position scan_from, MirrorRepairs& repairs);

// The same for one segment that is complete and durable, or of a closed file, while the log is open: in one go, so only
// where something is known to be wrong (segment_scrub.h). Copies that lack the file are left out.
Status mend_segment(io::MirrorDisk& mirrors, const LogOptions& options, Position base, SegmentNumber segment,
                    MirrorRepairs& repairs);

}  // namespace sluice::log
