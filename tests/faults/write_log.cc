#include "tests/faults/write_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <string>

#include "tests/faults/block_device.h"

namespace sluice::test {
namespace {

constexpr std::uint64_t kMagic = 0x6a736677736872;
constexpr std::uint64_t kFlush = 1;
constexpr std::uint64_t kDiscard = 4;

struct Super {
  std::uint64_t magic;
  std::uint64_t version;
  std::uint64_t entries;
  std::uint32_t sector_size;
};
struct EntryHead {
  std::uint64_t sector;
  std::uint64_t sectors;
  std::uint64_t flags;
  std::uint64_t data_size;
};

void read_exactly(int fd, std::uint64_t at, std::span<std::byte> into) {
  if (::pread(fd, into.data(), into.size(), static_cast<off_t>(at)) != static_cast<ssize_t>(into.size()))
    throw std::runtime_error("reading the write log at " + std::to_string(at) + " failed");
}

template <typename T>
T read_value(int fd, std::uint64_t at) {
  std::array<std::byte, sizeof(T)> bytes;
  read_exactly(fd, at, bytes);
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

}  // namespace

WriteLog::WriteLog(const std::filesystem::path& file, std::uint64_t size)
    : file_(::open(file.c_str(), O_RDONLY | O_CLOEXEC)), end_(kSectorSize) {
  const auto super = read_value<Super>(file_.get(), 0);
  if (super.magic != kMagic || super.sector_size != kSectorSize)
    throw std::runtime_error("no write log: " + file.string());
  while (end_ + kSectorSize <= size) {
    const auto head = read_value<EntryHead>(file_.get(), end_);
    Entry entry;
    entry.begin = end_;
    entry.data = end_ + kSectorSize;
    entry.offset = head.sector * kSectorSize;
    entry.size = head.sectors * kSectorSize;
    entry.flush = (head.flags & kFlush) != 0;
    entry.discard = (head.flags & kDiscard) != 0;
    const std::uint64_t next = entry.data + (entry.discard ? 0 : entry.size);
    if (next > size) break;
    end_ = next;
    flushes_ += entry.flush;
    entries_.push_back(entry);
  }
}

void PowerLoss::make(std::size_t entries, Survivors survivors, std::mt19937_64& random, std::span<std::byte> image) {
  std::size_t flush = entries;
  while (flush > flushed_count_ && !log_.entries_[flush - 1].flush) --flush;
  for (; flushed_count_ < flush; ++flushed_count_)
    apply(log_.entries_[flushed_count_], flushed_, Survivors::all, random);
  std::copy(flushed_.begin(), flushed_.end(), image.begin());
  for (std::size_t i = flush; i < entries; ++i) {
    if (survivors == Survivors::some_writes && random() % 2 == 0) continue;
    apply(log_.entries_[i], image, survivors, random);
  }
}

// What was discarded may read as anything: it is left as it was.
void PowerLoss::apply(const WriteLog::Entry& entry, std::span<std::byte> image, Survivors survivors,
                      std::mt19937_64& random) {
  if (entry.discard || entry.size == 0) return;
  if (entry.offset + entry.size > image.size()) throw std::runtime_error("a logged write lies beyond the device");
  if (survivors != Survivors::some_sectors) {
    read_exactly(log_.file_.get(), entry.data, image.subspan(entry.offset, entry.size));
    return;
  }
  buffer_.resize(entry.size);
  read_exactly(log_.file_.get(), entry.data, buffer_);
  for (std::uint64_t at = 0; at < entry.size; at += kSectorSize)
    if (random() % 2 == 0) std::memcpy(image.data() + entry.offset + at, buffer_.data() + at, kSectorSize);
}

}  // namespace sluice::test
