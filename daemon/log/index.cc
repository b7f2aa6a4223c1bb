#include "daemon/log/index.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "daemon/log/log_file.h"
#include "shm/base/checksum.h"
#include "shm/base/failpoint.h"

namespace sluice::log {
namespace {

constexpr std::uint64_t kLow32 = 0xffff'ffff;

// A segment has far fewer records; so many segments back is farther than a log is long.
std::uint64_t pack(const SegmentSummary& summary) {
  return (summary.records & kLow32) | std::min(summary.refers_back, kLow32) << 32;
}

// More is no index of ours: a file has at most a few thousand segments.
constexpr std::uint64_t kIndexSizeMax = 64 * 1024 * 1024;

IndexHeader make_header(const IndexKey& key) {
  IndexHeader header{};
  header.magic = kIndexMagic;
  header.version = kIndexVersion;
  header.topic_id = key.topic.value;
  header.partition = key.partition;
  header.segments_per_file = key.segments_per_file;
  header.base = key.base.value;
  header.segment_size = key.segment_size;
  header.checksum = crc32c(0, &header, offsetof(IndexHeader, checksum));
  return header;
}

std::uint32_t checksum_of(IndexEntry entry, std::uint32_t header_checksum) {
  entry.checksum = 0;
  return crc32c(header_checksum, &entry, sizeof entry);
}

void put(std::vector<std::byte>& out, const void* bytes, std::size_t size) {
  const auto* from = static_cast<const std::byte*>(bytes);
  out.insert(out.end(), from, from + size);
}

void put_entry(std::vector<std::byte>& out, std::uint32_t header_checksum, IndexEntryKind kind, std::uint64_t first,
               std::uint64_t second, std::uint64_t third) {
  IndexEntry entry{static_cast<std::uint32_t>(kind), 0, first, second, third};
  entry.checksum = checksum_of(entry, header_checksum);
  put(out, &entry, sizeof entry);
}

void put_content(std::vector<std::byte>& out, std::uint32_t header_checksum, const IndexContent& content) {
  for (const SegmentSummary& s : content.segments)
    put_entry(out, header_checksum, IndexEntryKind::segment, s.segment.value, pack(s), s.time_max_ns);
  for (const Damage& d : content.damaged)
    put_entry(out, header_checksum, IndexEntryKind::damaged, d.begin.value, d.end.value,
              static_cast<std::uint64_t>(d.reason));
  if (content.closed)
    put_entry(out, header_checksum, IndexEntryKind::closed, content.closed->data_end.value, content.closed->records,
              content.closed->time_max_ns);
}

// False: the entry says something that cannot be about this file.
bool take_entry(const IndexEntry& entry, const IndexKey& key, IndexContent& content) {
  const std::uint64_t begin = key.base.value;
  const std::uint64_t end = begin + key.segment_size * key.segments_per_file;
  switch (static_cast<IndexEntryKind>(entry.kind)) {
    case IndexEntryKind::segment: {
      const SegmentNumber segment(entry.first);
      const bool ascends = content.segments.empty() || content.segments.back().segment < segment;
      if (!ascends || entry.first < begin / key.segment_size || entry.first >= end / key.segment_size) return false;
      if (entry.second >> 32 > entry.first + 1) return false;
      content.segments.push_back({segment, entry.second & kLow32, entry.third, entry.second >> 32});
      return true;
    }
    case IndexEntryKind::closed:
      if (entry.first < begin || entry.first > end) return false;
      content.closed = IndexClosed{Position(entry.first), entry.second, entry.third};
      return true;
    case IndexEntryKind::damaged:
      if (entry.first < begin || entry.second > end || entry.first >= entry.second) return false;
      content.damaged.push_back(
          {Position(entry.first), Position(entry.second), static_cast<DamageReason>(entry.third)});
      return true;
  }
  return true;
}

void parse(std::span<const std::byte> bytes, const IndexKey& key, const IndexHeader& header, IndexContent& content) {
  std::size_t at = sizeof(IndexHeader);
  for (; at + sizeof(IndexEntry) <= bytes.size() && !content.closed; at += sizeof(IndexEntry)) {
    IndexEntry entry;
    std::memcpy(&entry, bytes.data() + at, sizeof entry);
    if (entry.checksum != checksum_of(entry, header.checksum) || !take_entry(entry, key, content)) return;
    ++content.entries;
  }
  content.intact = at == bytes.size();
}

}  // namespace

std::string text(DamageReason reason) {
  switch (reason) {
    case DamageReason::segment_header: return "the segment's header is not readable";
    case DamageReason::claim_word: return "a record's first word is impossible";
    case DamageReason::sizes: return "a record's sizes do not fit its span";
    case DamageReason::checksum: return "a record's checksum does not match";
    case DamageReason::missing: return "bytes that were durable are missing";
    case DamageReason::unrecognised: return "nothing in the file is readable";
  }
  return "damaged for a reason that this version has no name for";
}

Result<IndexContent> read_index(io::Disk& disk, const std::string& directory, const IndexKey& key) {
  const std::string path = index_path(directory, key.base);
  auto opened = open_file(disk, path, io::OpenMode::read);
  if (!opened && opened.error().code() == ErrorCode::not_found) return IndexContent{};
  if (!opened) return fail(std::move(opened).error());
  SLUICE_ASSIGN(const std::uint64_t size, disk.size(opened->id()));
  IndexContent garbled;
  garbled.garbled = size != 0;
  if (size < sizeof(IndexHeader) || size > kIndexSizeMax) return garbled;
  std::vector<std::byte> bytes(size);
  SLUICE_ASSIGN(const std::size_t got, disk.read(opened->id(), 0, bytes));
  bytes.resize(got);
  if (got < sizeof(IndexHeader)) return garbled;

  IndexHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != kIndexMagic || header.checksum != crc32c(0, &header, offsetof(IndexHeader, checksum)))
    return garbled;
  if (header.version != kIndexVersion)
    return fail(ErrorCode::version, "reading " + path + ": its format is version " + std::to_string(header.version) +
                                        ", this build knows " + std::to_string(kIndexVersion) +
                                        ": use the newer sluiced; nothing was changed");
  const IndexHeader expected = make_header(key);
  if (std::memcmp(&header, &expected, sizeof header) != 0) return garbled;
  IndexContent content;
  content.present = true;
  parse(bytes, key, header, content);
  return content;
}

Status write_index(io::Disk& disk, const std::string& directory, const IndexKey& key, const IndexContent& content) {
  const IndexHeader header = make_header(key);
  std::vector<std::byte> bytes;
  put(bytes, &header, sizeof header);
  put_content(bytes, header.checksum, content);
  SLUICE_TRY(replace_file(disk, directory, index_path(directory, key.base), bytes));
  SLUICE_FAILPOINT("log.index_written");
  return {};
}

Status append_index(io::Disk& disk, const std::string& directory, const IndexKey& key, std::uint64_t entries,
                    const IndexContent& added) {
  if (entries == 0) return write_index(disk, directory, key, added);
  std::vector<std::byte> bytes;
  put_content(bytes, make_header(key).checksum, added);
  SLUICE_ASSIGN(const FileHandle file, open_file(disk, index_path(directory, key.base), io::OpenMode::read_write));
  SLUICE_TRY(disk.write_synced(file.id(), sizeof(IndexHeader) + entries * sizeof(IndexEntry), bytes));
  SLUICE_FAILPOINT("log.index_written");
  return {};
}

}  // namespace sluice::log
