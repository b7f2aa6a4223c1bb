// The optional part behind a payload: key, tag, headers, bookmark and the daemon's own fields.
//
//   trailer = u32 size (whole, multiple of 4) · entry…
//   entry   = u8 type · u8 zero · u16 size · bytes[size] · padding with zeros to 4
//   type    = key 1 · tag 2 · header 3 (u16 name size · name · value) · bookmark 4 · reference 5 (u64 position) ·
//             due 6 (u64 ns since the epoch) · expiry 7 (u64 ns) ·
//             fence 8 (u32 old id · u32 new id · u64 next sequence) ·
//             half 9 (u64 transaction · u32 flags, 1: check-back · producer group)
//
// An entry of unknown type is passed over. Thread safety: values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "shm/base/result.h"
#include "shm/base/transaction_id.h"
#include "shm/base/types.h"

namespace sluice::layout {

enum class TrailerType : std::uint8_t { key = 1, tag, header, bookmark, reference, due, expiry, fence, half };

struct Fence {
  ProducerId old_id;
  ProducerId new_id;
  Sequence next_sequence;
};

// Of a half message: the transaction that it waits for.
struct HalfEntry {
  TransactionId transaction;
  bool check_back = false;  // the application is asked what became of it; else its producer's death rolls it back
  std::string_view group;   // the producer group, 1 to kGroupNameSizeMax bytes
};

// Kept free for the daemon's own entries (reference, due, expiry, fence), so that adding them cannot fail.
inline constexpr std::size_t kTrailerDaemonReserve = 64;

// Builds a trailer in a buffer that is kept from one message to the next (no allocation once it has grown).
class TrailerBuilder {
 public:
  void clear();
  // Each refuses a value above its limit (shm/base/limits.h) with too_large, and leaves the trailer as it was.
  // A header's name has 1 to 65,533 bytes, else invalid.
  Status key(std::string_view bytes);
  Status tag(std::string_view text);
  Status header(std::string_view name, std::string_view value);
  Status bookmark(std::string_view bytes);
  Status half(const HalfEntry& half);
  // Each at most once in a trailer: there is always room for them.
  void reference(Position position);
  void due(std::uint64_t time_ns);
  void expiry(std::uint64_t time_ns);
  void fence(const Fence& fence);
  // The bytes to store; empty if nothing was added. Valid until the next call of any other member.
  std::span<const std::byte> finish();

 private:
  Status add(TrailerType type, std::string_view value, const char* what);
  Status check_room(std::size_t size, const char* what) const;
  void add_unchecked(TrailerType type, std::string_view first, std::string_view second, std::string_view third);
  void add_own(TrailerType type, std::string_view value);

  std::string bytes_;
  std::uint32_t headers_ = 0;
};

// One entry as it stands in the trailer.
struct TrailerEntry {
  TrailerType type;
  std::span<const std::byte> bytes;
};

// Walks over a trailer of `size` bytes (trailer_size() of record.h). Every step is bounds-checked: a broken entry ends
// the walk with broken() true.
class TrailerReader {
 public:
  explicit TrailerReader(std::span<const std::byte> trailer);
  std::optional<TrailerEntry> next();
  bool broken() const { return broken_; }

 private:
  std::span<const std::byte> rest_;
  bool broken_ = false;
};

// The first entry of that type, or an empty span with null data.
std::span<const std::byte> find_entry(std::span<const std::byte> trailer, TrailerType type);
std::string_view as_text(std::span<const std::byte> bytes);
// Name and value of a header entry; nothing if it is broken.
std::optional<std::pair<std::string_view, std::string_view>> as_header(std::span<const std::byte> bytes);
std::optional<std::uint64_t> as_u64(std::span<const std::byte> bytes);
std::optional<Fence> as_fence(std::span<const std::byte> bytes);
// Its group's name lies in `bytes`. Nothing if it is broken, or its limits do not hold.
std::optional<HalfEntry> as_half(std::span<const std::byte> bytes);

// A dead letter's header: where the message was first appended. The daemon's own; an application that sets it misleads
// nobody but its consumers' ledgers.
inline constexpr const char* kOriginIdHeader = "sluice-origin-id";
struct OriginId {
  TopicId topic;
  PartitionNumber partition = 0;
  Position position;
};
std::string to_text(const OriginId& origin);
std::optional<OriginId> parse_origin_id(std::string_view text);

}  // namespace sluice::layout
