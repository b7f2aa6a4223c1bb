// A small table of keys and values in a memfd, which outlives the process that writes it: what a daemon leaves to the
// next one beside the regions themselves. Never handed to a client.
//
// Owner: one thread of one daemon. A process may die in any of its instructions: the next one finds every put() and
// erase() that returned, and of the one that was cut off either all or nothing.
//
// How: two halves. Entries (a put or an erase) are appended to the active one and count once its `end`, stored last,
// lies behind them. When it is full, or most of it is out of date, the live entries are written to the other half, and
// one store makes that active.
//
// Invariant: the values of live entries are a copy of what this object holds.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "shm/base/fd.h"
#include "shm/base/result.h"
#include "shm/base/types.h"
#include "shm/region/mapping.h"

namespace sluice::keep {

// Bytes of one half. Sparse: only what was written takes memory.
inline constexpr std::uint64_t kTableHalfSize = std::uint64_t{128} << 20;

struct TableKey {
  std::uint32_t kind = 0;
  std::uint64_t id = 0;
  auto operator<=>(const TableKey&) const = default;
};

class KeptTable {
 public:
  using Entries = std::map<TableKey, std::string>;

  static Result<KeptTable> create(Incarnation incarnation, std::uint64_t half_size = kTableHalfSize);
  // Takes over a table of the process before. version: a layout that this build does not know. corrupt: anything else
  // that is not right.
  static Result<KeptTable> adopt(UniqueFd fd);

  // quota: the live entries do not fit.
  Status put(TableKey key, std::string value);
  void erase(TableKey key);
  const Entries& entries() const { return entries_; }
  int fd() const { return fd_.get(); }

 private:
  struct Header;
  KeptTable(UniqueFd fd, region::Mapping mapping, std::uint64_t half_size);

  Header& header() const;
  std::byte* half(std::uint64_t index) const;
  Status read(std::uint64_t active);
  void set(TableKey key, std::string value);
  void unset(Entries::iterator entry);
  bool append(TableKey key, std::string_view value, bool erased);
  Status compact();

  UniqueFd fd_;
  region::Mapping mapping_;
  std::uint64_t half_size_;
  Entries entries_;
  std::uint64_t live_size_ = 0;  // bytes that entries_ take in a half
};

}  // namespace sluice::keep
