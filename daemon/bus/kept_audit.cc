#include "daemon/bus/kept_audit.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

namespace sluice::bus {
namespace {

// Raised with every change of what follows, also of core::kAuditCategories.
constexpr std::uint32_t kLayoutVersion = 4;
// Version 1 had no `delays_changed`, 1 and 2 nothing of halves: nobody could send any; 3 no late ones.
constexpr std::uint32_t kLayoutVersionFirst = 1;
constexpr std::uint32_t kLayoutVersionOfHalves = 3;
constexpr std::uint32_t kLayoutVersionOfLateHalves = 4;
// Bits of Header::waiting_changed.
constexpr std::uint32_t kDelaysChanged = 1;
constexpr std::uint32_t kHalvesChanged = 2;

// The host's byte order: it never leaves the host. Behind the header the rows, each with its name behind it, then the
// bookmarks, each with its bytes behind it.
struct Header {
  std::uint32_t version = kLayoutVersion;
  std::uint32_t rows = 0;
  std::uint32_t bookmarks = 0;
  std::uint32_t waiting_changed = 0;
  std::uint64_t upto = 0;
};

struct Row {
  std::uint32_t producer = 0;
  std::uint32_t name_size = 0;
  std::uint64_t sequence_first = 0;
  std::uint64_t sequence_last = 0;
  std::array<std::uint64_t, core::kAuditCategories.size()> counts{};
};

struct Mark {
  std::uint32_t producer = 0;
  std::uint32_t bookmark_size = 0;
  std::uint64_t sequence = 0;
};

// Behind the header, from kLayoutVersionOfHalves on.
struct Halves {
  std::uint64_t decided = 0;
};

// Behind those, from kLayoutVersionOfLateHalves on, with so many positions behind it.
struct LateHalves {
  std::uint64_t count = 0;
};

static_assert(sizeof(Header) == 24 && sizeof(Halves) == 8 && sizeof(LateHalves) == 8 &&
              sizeof(Row) == 24 + 8 * core::kAuditCategories.size() && sizeof(Mark) == 16);

template <typename Fixed>
void append(std::string& bytes, const Fixed& fixed) {
  bytes.append(reinterpret_cast<const char*>(&fixed), sizeof fixed);
}

// What is left of the bytes; takes nothing that is not there.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  template <typename Fixed>
  bool take(Fixed& fixed) {
    if (rest_.size() < sizeof fixed) return false;
    std::memcpy(&fixed, rest_.data(), sizeof fixed);
    rest_.remove_prefix(sizeof fixed);
    return true;
  }

  bool take(std::string& text, std::size_t size) {
    if (rest_.size() < size) return false;
    text.assign(rest_.substr(0, size));
    rest_.remove_prefix(size);
    return true;
  }

  bool at_end() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

bool take_row(Reader& reader, core::AuditRow& row) {
  Row fixed;
  if (!reader.take(fixed) || !reader.take(row.name, fixed.name_size)) return false;
  row.producer = ProducerId(fixed.producer);
  row.counts.sequence_first = Sequence(fixed.sequence_first);
  row.counts.sequence_last = Sequence(fixed.sequence_last);
  for (std::size_t i = 0; i < fixed.counts.size(); ++i) row.counts.*core::kAuditCategories[i] = fixed.counts[i];
  return row.counts.sum_holds();
}

bool take_bookmark(Reader& reader, std::pair<ProducerId, spill::ProducerMark>& bookmark) {
  Mark fixed;
  if (!reader.take(fixed) || !reader.take(bookmark.second.bookmark, fixed.bookmark_size)) return false;
  bookmark.first = ProducerId(fixed.producer);
  bookmark.second.sequence = Sequence(fixed.sequence);
  return true;
}

bool take_late_halves(Reader& reader, std::vector<Position>& positions) {
  LateHalves late;
  if (!reader.take(late)) return false;
  for (std::uint64_t i = 0; i < late.count; ++i) {
    std::uint64_t position = 0;
    if (!reader.take(position)) return false;
    positions.emplace_back(position);
  }
  return true;
}

std::uint32_t waiting_changed(const spill::Checkpoint& checkpoint) {
  return (checkpoint.delays_changed ? kDelaysChanged : 0) | (checkpoint.halves_changed ? kHalvesChanged : 0);
}

}  // namespace

std::string encode_checkpoint(const spill::Checkpoint& checkpoint) {
  std::string bytes;
  bytes.reserve(sizeof(Header) + sizeof(Halves) + sizeof(LateHalves) +
                checkpoint.halves.late.size() * sizeof(Position) + checkpoint.rows.size() * sizeof(Row) +
                checkpoint.bookmarks.size() * sizeof(Mark));
  append(bytes, Header{kLayoutVersion, static_cast<std::uint32_t>(checkpoint.rows.size()),
                       static_cast<std::uint32_t>(checkpoint.bookmarks.size()), waiting_changed(checkpoint),
                       checkpoint.upto.value});
  append(bytes, Halves{checkpoint.halves.decided});
  append(bytes, LateHalves{checkpoint.halves.late.size()});
  for (const Position position : checkpoint.halves.late) append(bytes, position.value);
  for (const core::AuditRow& row : checkpoint.rows) {
    Row fixed{row.producer.value,
              static_cast<std::uint32_t>(row.name.size()),
              row.counts.sequence_first.value,
              row.counts.sequence_last.value,
              {}};
    for (std::size_t i = 0; i < fixed.counts.size(); ++i) fixed.counts[i] = row.counts.*core::kAuditCategories[i];
    append(bytes, fixed);
    bytes += row.name;
  }
  for (const auto& [producer, mark] : checkpoint.bookmarks) {
    append(bytes, Mark{producer.value, static_cast<std::uint32_t>(mark.bookmark.size()), mark.sequence.value});
    bytes += mark.bookmark;
  }
  return bytes;
}

Result<spill::Checkpoint> decode_checkpoint(std::string_view bytes) {
  const auto damaged = [] { return fail(ErrorCode::corrupt, "reading the noted counts of a partition: damaged"); };
  Reader reader(bytes);
  Header header;
  if (!reader.take(header)) return damaged();
  if (header.version < kLayoutVersionFirst || header.version > kLayoutVersion)
    return fail(ErrorCode::version, "reading the noted counts of a partition: layout " +
                                        std::to_string(header.version) + ", this daemon knows " +
                                        std::to_string(kLayoutVersion));
  spill::Checkpoint checkpoint;
  checkpoint.upto = Position(header.upto);
  checkpoint.delays_changed = (header.waiting_changed & kDelaysChanged) != 0;
  checkpoint.halves_changed = (header.waiting_changed & kHalvesChanged) != 0;
  Halves halves;
  if (header.version >= kLayoutVersionOfHalves && !reader.take(halves)) return damaged();
  checkpoint.halves.decided = halves.decided;
  if (header.version >= kLayoutVersionOfLateHalves && !take_late_halves(reader, checkpoint.halves.late))
    return damaged();
  for (std::uint32_t i = 0; i < header.rows; ++i)
    if (!take_row(reader, checkpoint.rows.emplace_back())) return damaged();
  for (std::uint32_t i = 0; i < header.bookmarks; ++i)
    if (!take_bookmark(reader, checkpoint.bookmarks.emplace_back())) return damaged();
  if (!reader.at_end()) return damaged();
  return checkpoint;
}

}  // namespace sluice::bus
