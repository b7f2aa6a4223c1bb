#include "daemon/io/sim_file.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "shm/base/assert.h"

namespace sluice::io {

namespace {

std::uint64_t blocks_for(std::uint64_t bytes) { return (bytes + kSimBlockSize - 1) / kSimBlockSize; }

// Sectors of a write, the last one possibly short (write_synced takes any size).
std::size_t sectors_for(std::size_t bytes) { return (bytes + kSimSectorSize - 1) / kSimSectorSize; }

}  // namespace

std::size_t SparseBytes::read(std::uint64_t offset, std::span<std::byte> into) const {
  if (offset >= size_) return 0;
  const std::size_t total = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), size_ - offset));
  for (std::size_t done = 0; done < total;) {
    const std::uint64_t at = offset + done;
    const std::size_t within = static_cast<std::size_t>(at % kSimBlockSize);
    const std::size_t piece = std::min<std::size_t>(kSimBlockSize - within, total - done);
    if (const auto found = blocks_.find(at / kSimBlockSize); found != blocks_.end()) {
      std::memcpy(into.data() + done, found->second.data() + within, piece);
    } else {
      std::memset(into.data() + done, 0, piece);
    }
    done += piece;
  }
  return total;
}

void SparseBytes::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const std::uint64_t at = offset + done;
    const std::size_t within = static_cast<std::size_t>(at % kSimBlockSize);
    const std::size_t piece = std::min<std::size_t>(kSimBlockSize - within, bytes.size() - done);
    // try_emplace value-initialises a new block, so what is not written of it is zero.
    Block& block = blocks_.try_emplace(at / kSimBlockSize).first->second;
    std::memcpy(block.data() + within, bytes.data() + done, piece);
    done += piece;
  }
  size_ = std::max(size_, offset + bytes.size());
}

void SparseBytes::resize(std::uint64_t size) {
  if (size < size_) {
    blocks_.erase(blocks_.lower_bound(blocks_for(size)), blocks_.end());
    const std::size_t within = static_cast<std::size_t>(size % kSimBlockSize);
    const auto last = blocks_.find(size / kSimBlockSize);
    if (within != 0 && last != blocks_.end()) {
      std::memset(last->second.data() + within, 0, kSimBlockSize - within);
    }
  }
  size_ = size;
}

void SparseBytes::flip(std::uint64_t offset, unsigned bit) {
  SLUICE_ASSERT(offset < size_);
  SLUICE_ASSERT(bit < 8);
  blocks_.try_emplace(offset / kSimBlockSize).first->second[offset % kSimBlockSize] ^= std::byte{1} << bit;
}

std::uint64_t SimFile::used_blocks() const {
  const auto& blocks = current_.blocks();
  return reserved_blocks_ +
         static_cast<std::uint64_t>(std::distance(blocks.lower_bound(reserved_blocks_), blocks.end()));
}

std::uint64_t SimFile::used_blocks_after_write(std::uint64_t offset, std::uint64_t size) const {
  std::uint64_t used = used_blocks();
  for (std::uint64_t block = offset / kSimBlockSize; block < blocks_for(offset + size); ++block) {
    if (block >= reserved_blocks_ && !current_.blocks().contains(block)) ++used;
  }
  return used;
}

std::uint64_t SimFile::used_blocks_after_reserve(std::uint64_t size) const {
  const std::uint64_t reserved = std::max(reserved_blocks_, blocks_for(size));
  const auto& blocks = current_.blocks();
  return reserved + static_cast<std::uint64_t>(std::distance(blocks.lower_bound(reserved), blocks.end()));
}

SimFile::Change& SimFile::at(ChangeNumber number) {
  const auto found = pending_.find(number);
  SLUICE_ASSERT(found != pending_.end());
  return found->second;
}

void SimFile::add_resize(Kind kind, std::uint64_t size) {
  Change change;
  change.number = next_number_++;
  change.kind = kind;
  change.state = State::syncable;
  change.size = size;
  resize(change, current_);
  pending_.emplace(change.number, std::move(change));
}

void SimFile::reserve(std::uint64_t size) {
  reserved_blocks_ = std::max(reserved_blocks_, blocks_for(size));
  if (size > current_.size()) add_resize(Kind::grow, size);
}

void SimFile::truncate(std::uint64_t size) {
  reserved_blocks_ = std::min(reserved_blocks_, blocks_for(size));
  if (size != current_.size()) add_resize(Kind::cut, size);
}

SimFile::ChangeNumber SimFile::begin_write(std::uint64_t offset, std::span<const std::byte> bytes) {
  Change change;
  change.number = next_number_++;
  change.offset = offset;
  change.bytes.assign(bytes.begin(), bytes.end());
  change.struck_out.assign(sectors_for(bytes.size()), false);
  const ChangeNumber number = change.number;
  pending_.emplace(number, std::move(change));
  return number;
}

void SimFile::complete(ChangeNumber number, std::uint64_t size) {
  Change& change = at(number);
  SLUICE_ASSERT(change.state == State::in_flight);
  SLUICE_ASSERT(size <= change.bytes.size());
  change.bytes.resize(static_cast<std::size_t>(size));
  change.struck_out.resize(sectors_for(change.bytes.size()));
  change.state = State::syncable;
  apply(change, current_);
}

void SimFile::complete_failed(ChangeNumber number, SimRandom& random) {
  Change& change = at(number);
  SLUICE_ASSERT(change.state == State::in_flight);
  for (std::size_t sector = 0; sector < change.struck_out.size(); ++sector) {
    if (random.coin()) change.struck_out[sector] = true;
  }
  change.state = State::syncable;
  apply(change, current_);
}

bool SimFile::in_flight_overlaps(std::uint64_t offset, std::uint64_t size) const {
  return std::any_of(pending_.begin(), pending_.end(), [&](const auto& entry) {
    const Change& change = entry.second;
    return change.kind == Kind::write && change.state == State::in_flight && change.offset < offset + size &&
           offset < change.offset + change.bytes.size();
  });
}

std::span<const std::byte> SimFile::bytes_of(ChangeNumber number) const {
  const auto found = pending_.find(number);
  SLUICE_ASSERT(found != pending_.end());
  return found->second.bytes;
}

std::vector<SimFile::ChangeNumber> SimFile::syncable() const {
  std::vector<ChangeNumber> numbers;
  for (const auto& [number, change] : pending_) {
    if (change.state == State::syncable) numbers.push_back(number);
  }
  return numbers;
}

void SimFile::make_durable(std::span<const ChangeNumber> numbers) {
  for (const ChangeNumber number : numbers) {
    // Another sync may have been quicker, or a younger size have taken an older one with it.
    if (pending_.contains(number)) make_one_durable(number);
  }
}

void SimFile::make_one_durable(ChangeNumber number) {
  for (auto older = pending_.begin(); older != pending_.end() && older->first < number;) {
    const Change& change = older->second;
    ++older;
    if (change.kind != Kind::write) make_one_durable(change.number);
  }
  const Change& change = at(number);
  if (change.kind == Kind::write) {
    apply(change, durable_);
    strike_out(number, change.offset, change.offset + change.bytes.size());
  } else {
    resize(change, durable_);
    if (change.kind == Kind::cut) strike_out(number, change.size, UINT64_MAX);
  }
  pending_.erase(number);
}

void SimFile::strike_out(ChangeNumber older_than, std::uint64_t from, std::uint64_t to) {
  for (auto& [number, change] : pending_) {
    if (number >= older_than) break;
    for (std::size_t sector = 0; sector < change.struck_out.size(); ++sector) {
      const std::uint64_t first = change.offset + sector * kSimSectorSize;
      const std::uint64_t end = std::min(first + kSimSectorSize, change.offset + change.bytes.size());
      if (first < to && from < end) change.struck_out[sector] = true;
    }
  }
}

void SimFile::apply(const Change& change, SparseBytes& to) const {
  const std::span<const std::byte> bytes(change.bytes);
  const std::vector<bool>& struck_out = change.struck_out;
  for (std::size_t sector = 0; sector < struck_out.size();) {
    if (struck_out[sector]) {
      ++sector;
      continue;
    }
    const std::size_t first = sector * kSimSectorSize;
    while (sector < struck_out.size() && !struck_out[sector]) ++sector;
    const std::size_t end = std::min<std::size_t>(sector * kSimSectorSize, bytes.size());
    to.write(change.offset + first, bytes.subspan(first, end - first));
  }
}

void SimFile::resize(const Change& change, SparseBytes& to) {
  to.resize(change.kind == Kind::grow ? std::max(to.size(), change.size) : change.size);
}

void SimFile::abandon(std::span<const ChangeNumber> numbers) {
  for (const ChangeNumber number : numbers) {
    if (const auto found = pending_.find(number); found != pending_.end()) found->second.state = State::abandoned;
  }
}

void SimFile::power_loss(SimRandom& random) {
  for (auto& [number, change] : pending_) {
    const std::uint64_t fate = random.below(3);  // 0: dropped, 1: kept, 2: torn
    if (change.kind != Kind::write) {
      if (fate != 0) resize(change, durable_);
      continue;
    }
    for (std::size_t sector = 0; sector < change.struck_out.size(); ++sector) {
      if (fate == 0 || (fate == 2 && random.coin())) change.struck_out[sector] = true;
    }
    apply(change, durable_);
  }
  pending_.clear();
  current_ = durable_;
  reserved_blocks_ = std::min(reserved_blocks_, blocks_for(current_.size()));
}

void SimFile::flip(std::uint64_t offset, unsigned bit) {
  if (offset < current_.size()) current_.flip(offset, bit);
  if (offset < durable_.size()) durable_.flip(offset, bit);
}

}  // namespace sluice::io
