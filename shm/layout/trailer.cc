#include "shm/layout/trailer.h"

#include <charconv>
#include <cstring>

#include "shm/base/assert.h"
#include "shm/base/limits.h"

namespace sluice::layout {
namespace {
constexpr std::size_t kSizeField = 4;
constexpr std::size_t kEntryHeaderSize = 4;
constexpr std::size_t kHalfFixedSize = 12;
constexpr std::uint32_t kHalfCheckBack = 1;

// A number's bytes as they stand in a trailer. The view lives as long as `value`.
template <typename T>
std::string_view bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
constexpr std::size_t padding(std::size_t size) { return (4 - size % 4) % 4; }
template <typename T>
T get(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
}  // namespace

void TrailerBuilder::clear() {
  bytes_.clear();
  headers_ = 0;
}

Status TrailerBuilder::check_room(std::size_t size, const char* what) const {
  const std::size_t used = bytes_.empty() ? kSizeField : bytes_.size();
  if (size <= 0xffff && used + kEntryHeaderSize + size + padding(size) <= kTrailerSizeMax - kTrailerDaemonReserve)
    return {};
  return fail(ErrorCode::too_large, std::string("adding a ") + what + " of " + std::to_string(size) +
                                        " bytes to a message: key, tag, headers and bookmark together may take " +
                                        std::to_string(kTrailerSizeMax - kTrailerDaemonReserve) + " bytes");
}

void TrailerBuilder::add_unchecked(TrailerType type, std::string_view first, std::string_view second,
                                   std::string_view third) {
  const auto size = static_cast<std::uint16_t>(first.size() + second.size() + third.size());
  if (bytes_.empty()) bytes_.append(kSizeField, '\0');
  bytes_.push_back(static_cast<char>(type));
  bytes_.push_back(0);
  bytes_.append(bytes_of(size));
  bytes_.append(first).append(second).append(third);
  bytes_.append(padding(size), '\0');
}

Status TrailerBuilder::add(TrailerType type, std::string_view value, const char* what) {
  SLUICE_TRY(check_room(value.size(), what));
  add_unchecked(type, value, {}, {});
  return {};
}

void TrailerBuilder::add_own(TrailerType type, std::string_view value) {
  add_unchecked(type, value, {}, {});
  SLUICE_ASSERT(bytes_.size() <= kTrailerSizeMax);
}

Status TrailerBuilder::key(std::string_view bytes) {
  if (bytes.size() > kKeySizeMax)
    return fail(ErrorCode::too_large,
                "a key of " + std::to_string(bytes.size()) + " bytes: the limit is " + std::to_string(kKeySizeMax));
  return add(TrailerType::key, bytes, "key");
}
Status TrailerBuilder::tag(std::string_view text) {
  if (text.size() > kTagSizeMax)
    return fail(ErrorCode::too_large,
                "a tag of " + std::to_string(text.size()) + " bytes: the limit is " + std::to_string(kTagSizeMax));
  return add(TrailerType::tag, text, "tag");
}
Status TrailerBuilder::header(std::string_view name, std::string_view value) {
  if (name.empty() || name.size() > 0xffff - 2)
    return fail(ErrorCode::invalid, "adding a header to a message: its name must have 1 to 65533 bytes, not " +
                                        std::to_string(name.size()));
  if (headers_ == kHeadersMax)
    return fail(ErrorCode::too_large,
                "adding a header to a message: it has " + std::to_string(kHeadersMax) + " already, which is the limit");
  SLUICE_TRY(check_room(2 + name.size() + value.size(), "header"));
  const auto name_size = static_cast<std::uint16_t>(name.size());
  add_unchecked(TrailerType::header, bytes_of(name_size), name, value);
  ++headers_;
  return {};
}
Status TrailerBuilder::bookmark(std::string_view bytes) {
  if (bytes.size() > kBookmarkSizeMax)
    return fail(ErrorCode::too_large, "a bookmark of " + std::to_string(bytes.size()) + " bytes: the limit is " +
                                          std::to_string(kBookmarkSizeMax));
  return add(TrailerType::bookmark, bytes, "bookmark");
}
Status TrailerBuilder::half(const HalfEntry& half) {
  if (half.group.empty() || half.group.size() > kGroupNameSizeMax)
    return fail(ErrorCode::invalid, "a producer group's name of " + std::to_string(half.group.size()) +
                                        " bytes: it must have 1 to " + std::to_string(kGroupNameSizeMax));
  SLUICE_TRY(check_room(kHalfFixedSize + half.group.size(), "producer group"));
  const std::uint32_t flags = half.check_back ? kHalfCheckBack : 0;
  add_unchecked(TrailerType::half, bytes_of(half.transaction.value), bytes_of(flags), half.group);
  return {};
}
void TrailerBuilder::reference(Position position) { add_own(TrailerType::reference, bytes_of(position.value)); }
void TrailerBuilder::due(std::uint64_t time_ns) { add_own(TrailerType::due, bytes_of(time_ns)); }
void TrailerBuilder::expiry(std::uint64_t time_ns) { add_own(TrailerType::expiry, bytes_of(time_ns)); }
void TrailerBuilder::fence(const Fence& fence) {
  struct {
    std::uint32_t old_id;
    std::uint32_t new_id;
    std::uint64_t next_sequence;
  } const value{fence.old_id.value, fence.new_id.value, fence.next_sequence.value};
  static_assert(sizeof value == 16);
  add_own(TrailerType::fence, bytes_of(value));
}

std::span<const std::byte> TrailerBuilder::finish() {
  if (bytes_.empty()) return {};
  const auto size = static_cast<std::uint32_t>(bytes_.size());
  std::memcpy(bytes_.data(), &size, sizeof size);
  return std::as_bytes(std::span(bytes_));
}

TrailerReader::TrailerReader(std::span<const std::byte> trailer)
    : rest_(trailer.size() >= kSizeField ? trailer.subspan(kSizeField) : std::span<const std::byte>()) {}

std::optional<TrailerEntry> TrailerReader::next() {
  if (rest_.empty() || broken_) return std::nullopt;
  if (rest_.size() < kEntryHeaderSize) {
    broken_ = true;
    return std::nullopt;
  }
  const auto type = static_cast<TrailerType>(rest_[0]);
  const std::size_t size = get<std::uint16_t>(rest_.data() + 2);
  const std::size_t padded = (size + 3) & ~std::size_t{3};
  if (kEntryHeaderSize + padded > rest_.size()) {
    broken_ = true;
    return std::nullopt;
  }
  TrailerEntry entry{type, rest_.subspan(kEntryHeaderSize, size)};
  rest_ = rest_.subspan(kEntryHeaderSize + padded);
  return entry;
}

std::span<const std::byte> find_entry(std::span<const std::byte> trailer, TrailerType type) {
  TrailerReader reader(trailer);
  while (auto entry = reader.next())
    if (entry->type == type) return entry->bytes;
  return {};
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::optional<std::pair<std::string_view, std::string_view>> as_header(std::span<const std::byte> bytes) {
  if (bytes.size() < 2) return std::nullopt;
  const std::size_t name_size = get<std::uint16_t>(bytes.data());
  if (2 + name_size > bytes.size()) return std::nullopt;
  return std::pair(as_text(bytes.subspan(2, name_size)), as_text(bytes.subspan(2 + name_size)));
}

std::optional<std::uint64_t> as_u64(std::span<const std::byte> bytes) {
  if (bytes.size() != 8) return std::nullopt;
  return get<std::uint64_t>(bytes.data());
}

std::optional<Fence> as_fence(std::span<const std::byte> bytes) {
  if (bytes.size() != 16) return std::nullopt;
  return Fence{ProducerId(get<std::uint32_t>(bytes.data())), ProducerId(get<std::uint32_t>(bytes.data() + 4)),
               Sequence(get<std::uint64_t>(bytes.data() + 8))};
}

std::optional<HalfEntry> as_half(std::span<const std::byte> bytes) {
  if (bytes.size() <= kHalfFixedSize || bytes.size() > kHalfFixedSize + kGroupNameSizeMax) return std::nullopt;
  return HalfEntry{TransactionId(get<std::uint64_t>(bytes.data())),
                   (get<std::uint32_t>(bytes.data() + 8) & kHalfCheckBack) != 0,
                   as_text(bytes.subspan(kHalfFixedSize))};
}

std::string to_text(const OriginId& origin) {
  return std::to_string(origin.topic.value) + "/" + std::to_string(origin.partition) + "@" +
         std::to_string(origin.position.value);
}

std::optional<OriginId> parse_origin_id(std::string_view text) {
  OriginId origin;
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto take = [&](auto& number, char behind) {
    const auto [next, error] = std::from_chars(at, end, number);
    if (error != std::errc()) return false;
    at = next;
    if (behind == 0) return at == end;
    return at != end && *at++ == behind;
  };
  if (!take(origin.topic.value, '/') || !take(origin.partition, '@') || !take(origin.position.value, 0))
    return std::nullopt;
  return origin;
}

}  // namespace sluice::layout
