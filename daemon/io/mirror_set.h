// Which copies of the data directory a start may serve from.
//
// Owner: the start, before anything else looks into the data directory. Every root is looked at, the state with the
// highest generation decides, and whatever cannot be known is refused, not guessed.
//
//   a root            by the deciding state     this start
//   has a state       good                      serves, and writes there
//   has a state       stale, or not a member    is filled again (MirrorFill)
//   is empty                                    joins as stale, and is filled
//   is missing        good                      refuses, unless the operator accepts that it is missing
//   is not empty and has no state               refuses; but for the data directory itself where no root has a state
//
// Invariants
//  1. A copy is served from only if every state that can be seen, of the generation that decides, calls it good, and
//     no member that this state calls good is missing: the missing one could have gone on alone and hold newer
//     receipts.
//  2. Changes of the state are written to the copies that were good before, and then to those that become it.
//  3. A crash between any two steps leaves roots with the same outcome, or with one that refuses nothing that this
//  start
//     accepted.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "daemon/io/disk.h"
#include "daemon/io/mirror_state.h"
#include "shm/base/result.h"

namespace sluice::io {

struct MirrorCopy {
  std::string root;
  std::uint64_t id = 0;
  bool good = false;    // false: stale
  bool absent = false;  // stale, and not to be worked with: its disk answers with errors
  std::string reason;   // why it is not good, for people
};

struct MirrorSet {
  MirrorState state;               // `self` is without meaning
  std::vector<MirrorCopy> copies;  // as the roots are given: the first one is the data directory
};

struct MirrorSetOptions {
  std::vector<std::string> roots;  // absolute, no slash at the end, at most kMirrorCopiesMax; the data directory first
  std::vector<std::string> accept_missing;  // directories of members that may be missing, or that these lie in
  std::function<std::uint64_t()> random;    // for ids
};

// True if `root` is a copy of some set: it has a state, if only one that cannot be read.
Result<bool> has_mirror_state(Disk& disk, const std::string& root);

// Decides, and makes the states of all roots say so. Errors: conflict (refused, with what to do), corrupt, version, io.
Result<MirrorSet> open_mirror_set(Disk& disk, const MirrorSetOptions& options);

}  // namespace sluice::io
