// A piece of a file or memfd in this process's address space, through Boost.Interprocess' mapped_region.
//
// Owner: whoever holds it; unmapped with it. No exception leaves this file. The descriptor may be closed once the
// mapping stands; locks that live on its description (session lock, OFD locks of log files) then live as long as the
// mapping.
//
// Invariants
//  1. MADV_DONTFORK is set: a forked child has none of it, so a child never holds a session alive nor a slot pinned.
//  2. A read-only mapping is made from any descriptor, a read-write one from an O_RDWR descriptor only.
//
// Thread safety: const members from any thread; moving and destroying are the owner's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <boost/interprocess/mapped_region.hpp>

#include "shm/base/result.h"

namespace sluice::region {

enum class Access : std::uint8_t { read_only, read_write };

class Mapping {
 public:
  Mapping() = default;  // empty: data() is null
  Mapping(Mapping&&) noexcept = default;
  Mapping& operator=(Mapping&&) noexcept = default;

  // Maps `size` bytes from `offset`; size 0: from offset to the end. `what` names the thing in errors.
  // permission (a read-only descriptor mapped read-write), no_memory, or what the system says.
  static Result<Mapping> map(int fd, Access access, std::string_view what, std::uint64_t offset = 0,
                             std::size_t size = 0);

  std::byte* data() const { return static_cast<std::byte*>(region_.get_address()); }
  std::size_t size() const { return region_.get_size(); }
  std::span<std::byte> bytes() const { return {data(), size()}; }
  explicit operator bool() const { return data() != nullptr; }
  // The structure at an offset; the caller knows what lies there.
  template <typename T>
  T* at(std::size_t offset = 0) const {
    return reinterpret_cast<T*>(data() + offset);
  }

  // Reads the pages of [offset, offset + size) in, so that a later load cannot fault on a disk's read error: that is io
  // (EFAULT, EHWPOISON) here instead of SIGBUS there. Fills the holes of a memfd: prepared ranges only.
  Status populate_read(std::size_t offset, std::size_t size, std::string_view what) const;
  // The same for writing: pages are made, backed and mapped. Read-write mappings only; no_memory if there is none.
  Status populate_write(std::size_t offset, std::size_t size, std::string_view what) const;

 private:
  boost::interprocess::mapped_region region_;
};

}  // namespace sluice::region
