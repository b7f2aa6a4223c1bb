#include "tests/crash/board.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace sluice::test {
namespace {

constexpr std::uint32_t kMagic = 0x51a1ce05;

struct PayloadHead {
  std::uint32_t magic;
  std::uint32_t worker;
  std::uint64_t counter;
  std::uint64_t size;
};

// SplitMix64: steps a counter, and scrambles it.
std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = (state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

BoardMemory* map_board(int fd) {
  void* memory = ::mmap(nullptr, sizeof(BoardMemory), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("the board cannot be mapped");
  return static_cast<BoardMemory*>(memory);
}

}  // namespace

Board::Board() : fd_(::memfd_create("crash-board", MFD_CLOEXEC)) {
  if (::ftruncate(fd_.get(), sizeof(BoardMemory)) != 0) throw std::runtime_error("no memory for the board");
  memory_ = map_board(fd_.get());
}
Board::Board(int fd) : fd_(fd), memory_(map_board(fd)) {}
Board::~Board() { ::munmap(memory_, sizeof(BoardMemory)); }

Note* Board::new_note() const {
  const std::uint32_t index = memory_->notes_used.fetch_add(1, std::memory_order_relaxed);
  return index < kNotesMax ? &memory_->notes[index] : nullptr;
}

std::string make_payload(std::uint32_t worker, std::uint64_t counter) {
  std::uint64_t random = (static_cast<std::uint64_t>(worker) << 40) + counter;
  const std::uint64_t choice = next_random(random);
  const std::uint64_t size = sizeof(PayloadHead) + (choice % 97 == 0 ? 12 * 1024 : (choice >> 8) % 1500);
  std::string payload(size, '\0');
  const PayloadHead head{kMagic, worker, counter, size};
  std::memcpy(payload.data(), &head, sizeof head);
  for (std::size_t at = sizeof head; at < size; at += 8) {
    const std::uint64_t word = next_random(random);
    std::memcpy(payload.data() + at, &word, std::min<std::size_t>(8, size - at));
  }
  return payload;
}

bool parse_payload(std::string_view payload, Origin& origin) {
  PayloadHead head{};
  if (payload.size() < sizeof head) return false;
  std::memcpy(&head, payload.data(), sizeof head);
  if (head.magic != kMagic || head.size != payload.size()) return false;
  origin = {head.worker, head.counter};
  return payload == make_payload(head.worker, head.counter);
}

}  // namespace sluice::test
