#include "daemon/keep/kept_table.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <utility>

#include "shm/base/assert.h"
#include "shm/base/checksum.h"
#include "shm/layout/record.h"
#include "shm/region/memfd.h"
#include "shm/region/region.h"

namespace sluice::keep {
namespace {

constexpr const char* kName = "sluice-kept-table";
constexpr std::uint64_t kHeaderSize = 4096;
constexpr std::uint32_t kErased = 1;
// A half is left for the other when it is so many times what lives in it, and at least so long.
constexpr std::uint64_t kCompactedFactor = 4;
constexpr std::uint64_t kCompactedSizeMin = std::uint64_t{1} << 20;

struct EntryHeader {
  std::uint32_t checksum;  // CRC-32C of what follows, the value included
  std::uint32_t flags;     // kErased
  std::uint32_t kind;
  std::uint32_t size;  // of the value
  std::uint64_t id;
};
static_assert(sizeof(EntryHeader) == 24);

std::uint64_t entry_size(std::uint64_t value_size) { return sizeof(EntryHeader) + layout::align_up(value_size, 8); }

std::uint32_t checksum_of(const EntryHeader& header, const char* value) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&header) + sizeof header.checksum;
  return crc32c(crc32c(0, bytes, sizeof header - sizeof header.checksum), value, header.size);
}

tl::unexpected<Error> corrupt(const std::string& what) {
  return fail(ErrorCode::corrupt, "reading what the daemon before left: " + what);
}

}  // namespace

struct KeptTable::Header {
  layout::RegionHeader region;
  std::uint64_t half_size;
  std::atomic<std::uint64_t> active;  // 0 or 1; release
  std::atomic<std::uint64_t> end[2];  // bytes of each half that count; release: publishes the entries below
};

KeptTable::KeptTable(UniqueFd fd, region::Mapping mapping, std::uint64_t half_size)
    : fd_(std::move(fd)), mapping_(std::move(mapping)), half_size_(half_size) {}

KeptTable::Header& KeptTable::header() const { return *mapping_.at<Header>(); }
std::byte* KeptTable::half(std::uint64_t index) const { return mapping_.data() + kHeaderSize + index * half_size_; }

Result<KeptTable> KeptTable::create(Incarnation incarnation, std::uint64_t half_size) {
  static_assert(sizeof(Header) <= kHeaderSize);
  SLUICE_ASSERT(half_size % kHeaderSize == 0);  // whole pages
  SLUICE_ASSIGN(UniqueFd fd, region::create_memfd(kName, kHeaderSize + 2 * half_size));
  SLUICE_ASSIGN(region::Mapping mapping, region::Mapping::map(fd.get(), region::Access::read_write, kName));
  mapping.at<Header>()->half_size = half_size;
  region::RegionInfo info;
  info.kind = layout::RegionKind::kept_table;
  info.incarnation = incarnation;
  info.size = mapping.size();
  region::initialise_header(mapping, info);
  return KeptTable(std::move(fd), std::move(mapping), half_size);
}

Result<KeptTable> KeptTable::adopt(UniqueFd fd) {
  SLUICE_TRY(region::check_memfd(fd.get(), 0, kName));
  SLUICE_ASSIGN(region::Mapping mapping, region::Mapping::map(fd.get(), region::Access::read_write, kName));
  if (mapping.size() < kHeaderSize) return corrupt("its table is too small");
  const Incarnation incarnation(mapping.at<Header>()->region.incarnation);
  SLUICE_TRY(region::read_header(mapping, {layout::RegionKind::kept_table, incarnation, {}, {}, {}}));
  const std::uint64_t half_size = mapping.at<Header>()->half_size;
  if (half_size % kHeaderSize != 0 || (mapping.size() - kHeaderSize) / 2 != half_size)
    return corrupt("its table has a wrong size");
  KeptTable table(std::move(fd), std::move(mapping), half_size);
  // acquire: pairs with the release stores of the process before.
  const std::uint64_t active = table.header().active.load(std::memory_order_acquire);
  if (active > 1) return corrupt("its table has no half " + std::to_string(active));
  SLUICE_TRY(table.read(active));
  return table;
}

Status KeptTable::read(std::uint64_t active) {
  const std::uint64_t end = header().end[active].load(std::memory_order_acquire);
  if (end > half_size_) return corrupt("its table ends behind itself");
  for (std::uint64_t at = 0; at < end;) {
    EntryHeader entry;
    if (end - at < sizeof entry) return corrupt("an entry of its table is cut off");
    std::memcpy(&entry, half(active) + at, sizeof entry);
    const auto* value = reinterpret_cast<const char*>(half(active)) + at + sizeof entry;
    if (entry.size > end - at - sizeof entry || entry.checksum != checksum_of(entry, value))
      return corrupt("an entry of its table is damaged");
    const TableKey key{entry.kind, entry.id};
    if ((entry.flags & kErased) == 0)
      set(key, std::string(value, entry.size));
    else if (const auto found = entries_.find(key); found != entries_.end())
      unset(found);
    at += entry_size(entry.size);
  }
  return {};
}

void KeptTable::set(TableKey key, std::string value) {
  if (const auto before = entries_.find(key); before != entries_.end()) unset(before);
  live_size_ += entry_size(value.size());
  entries_.emplace(key, std::move(value));
}

void KeptTable::unset(Entries::iterator entry) {
  live_size_ -= entry_size(entry->second.size());
  entries_.erase(entry);
}

// False: the active half has no room for it, or should not grow.
bool KeptTable::append(TableKey key, std::string_view value, bool erased) {
  const std::uint64_t active = header().active.load(std::memory_order_relaxed);
  const std::uint64_t end = header().end[active].load(std::memory_order_relaxed);
  const std::uint64_t worth = std::max(kCompactedSizeMin, kCompactedFactor * live_size_);
  if (entry_size(value.size()) > std::min(half_size_, worth) - std::min(end, worth)) return false;
  EntryHeader entry{0, erased ? kErased : 0, key.kind, static_cast<std::uint32_t>(value.size()), key.id};
  entry.checksum = checksum_of(entry, value.data());
  std::memcpy(half(active) + end, &entry, sizeof entry);
  if (!value.empty()) std::memcpy(half(active) + end + sizeof entry, value.data(), value.size());
  // release: what was written above counts from here on.
  header().end[active].store(end + entry_size(value.size()), std::memory_order_release);
  return true;
}

Status KeptTable::compact() {
  const std::uint64_t active = header().active.load(std::memory_order_relaxed);
  const std::uint64_t other = 1 - active;
  if (live_size_ > half_size_)
    return fail(ErrorCode::quota, "noting what the next daemon must know: " + std::to_string(live_size_) +
                                      " bytes do not fit in " + std::to_string(half_size_) +
                                      "; end some sessions, or delete topics");
  header().end[other].store(0, std::memory_order_relaxed);
  std::uint64_t end = 0;
  for (const auto& [key, value] : entries_) {
    EntryHeader entry{0, 0, key.kind, static_cast<std::uint32_t>(value.size()), key.id};
    entry.checksum = checksum_of(entry, value.data());
    std::memcpy(half(other) + end, &entry, sizeof entry);
    std::memcpy(half(other) + end + sizeof entry, value.data(), value.size());
    end += entry_size(value.size());
  }
  header().end[other].store(end, std::memory_order_release);
  header().active.store(other, std::memory_order_release);
  // A little of it stays, for the next turn.
  if (half_size_ > kCompactedSizeMin)
    static_cast<void>(region::punch_hole(fd_.get(), kHeaderSize + active * half_size_ + kCompactedSizeMin,
                                         half_size_ - kCompactedSizeMin, kName));
  return {};
}

Status KeptTable::put(TableKey key, std::string value) {
  const auto found = entries_.find(key);
  if (found != entries_.end() && found->second == value) return {};
  if (append(key, value, false)) {
    set(key, std::move(value));
    return {};
  }
  std::optional<std::string> before = found == entries_.end() ? std::nullopt : std::optional(found->second);
  set(key, std::move(value));
  Status compacted = compact();
  if (compacted) return {};
  if (before)
    set(key, *std::move(before));
  else
    unset(entries_.find(key));
  return compacted;
}

void KeptTable::erase(TableKey key) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return;
  unset(found);
  // Without room for the note the live entries are fewer than before, so they fit.
  if (!append(key, {}, true)) static_cast<void>(compact());
}

}  // namespace sluice::keep
