// The store in several copies, one in each mirror of the data directory: every commit goes to all that are good.
//
// Owner: the bus thread.
//
// Invariants
//  1. What a call answered is committed in every good copy. A copy that failed is marked stale, durably on the others,
//     before the answer (Copies::mark_stale).
//  2. The copies' commits are the same, in the same order. At a start the one with the most of them is copied over the
//     others: a crash between two commits leaves one copy ahead of the other, and a call that was not answered may
//     stand or not.
//  3. A copy that answers otherwise than the first one has diverged, and is marked stale. So is one whose disk is full
//     where another has committed already; where the first one is full nothing is committed, and the caller is told.
//  4. Reads come from the first good copy that works.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/store/store.h"
#include "shm/base/result.h"

namespace sluice::store {

// The copies as the disk knows them: which are good, and how one is marked.
class Copies {
 public:
  virtual ~Copies() = default;
  virtual std::size_t count() const = 0;
  virtual bool is_good(std::size_t copy) const = 0;
  // Only of a good copy that is not the only one. Durable on the others on success.
  virtual Status mark_stale(std::size_t copy, const std::string& reason) = 0;
  virtual std::string store_path(std::size_t copy) const = 0;
};

class MirrorStore : public Store {
 public:
  // Takes in a copy that is stale: fill() copies the store there, a part at a time. Once it has said true, every commit
  // goes there too, so that the copy may become good (Copies::is_good) at any time. An error, also of such a commit,
  // ends it: is_filled() is false then, and it may begin anew.
  virtual Status begin_fill(std::size_t copy) = 0;
  virtual Result<bool> fill(std::uint32_t pages) = 0;
  virtual bool is_filled(std::size_t copy) const = 0;
  virtual void end_fill() = 0;
};

using OpenStore = std::function<Result<std::unique_ptr<Store>>(const std::string& path)>;

// Opens the store of every good copy with `open`, and makes them equal. A copy that cannot be opened or mended is
// marked stale; what stood there and was no store is kept beside it as `.damaged`. Errors: version, in_use; those of
// the last good copy. `copies` outlives the store.
Result<std::unique_ptr<MirrorStore>> open_mirror_store(Copies& copies, OpenStore open);

}  // namespace sluice::store
