// First part of a recovery: what is in the directory. Changes nothing.
//
// Owner: recovery, on the bus thread.
//
// Invariants
//  1. Every file that is not closed is locked before its first byte is read, and stays locked as long as its FileLook.
//  2. `claims` are positions that something valid names as durable; none is above what was durable.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/io/disk.h"
#include "daemon/log/index.h"
#include "daemon/log/log_file.h"
#include "daemon/log/partition_log.h"
#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::log {

struct FileLook {
  enum class Kind : std::uint8_t {
    closed,   // its index says where its data ends, and the file is that long
    ours,     // a segment header or an index entry of this file holds
    blank,    // every segment header is zero
    foreign,  // not blank, and nothing in it is ours
  };
  Kind kind = Kind::blank;
  Position base;
  std::string path;
  FileHandle file;
  std::uint64_t size = 0;
  IndexContent index;
  // Of the first and the last segment header that holds; not known of a closed file.
  std::optional<std::uint64_t> first_incarnation;
  std::optional<std::uint64_t> last_incarnation;
  // Segments whose header is not zero, as a count from the file's start to the last of them.
  std::uint64_t used_segments = 0;
  // Bytes of its former use may follow its data (layout::kFormerUseMark).
  bool reused = false;
  // What its own index says to be durable of it; its base if nothing.
  Position indexed_end;
  // Begins another life of the bus than the file before it, so that file was recovered and cut before.
  bool begins_life = false;

  bool has_data() const { return kind == Kind::closed || kind == Kind::ours; }
};

struct SetAside {
  Position base;
  std::string path;
};

struct DirectoryLook {
  std::vector<FileLook> files;           // ascending by base
  std::vector<std::string> temporaries;  // paths; never held anything
  std::vector<std::string> orphans;      // paths of indexes without their log file
  std::vector<std::string> unparsed;     // paths
  std::vector<SetAside> set_aside;       // .torn files
  std::vector<Position> claims;          // ascending
};

std::uint64_t full_file_size(const LogOptions& options);
IndexKey index_key(const LogOptions& options, Position base);

// Errors: in_use, version, io. `scan_from`: a closed file that reaches above it stays open.
Result<DirectoryLook> look(io::Disk& disk, const LogOptions& options, Position scan_from);

}  // namespace sluice::log
