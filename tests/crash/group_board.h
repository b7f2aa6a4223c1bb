// Where the members of a group leave word of what they have handled: a memfd that the test maps too.
//
// Each message names its key and its number among those of its key, from 0. A member counts a message when it has
// handled it, before it acks: a member that dies between the two is the reason of one repeat.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "shm/base/fd.h"
#include "shm/region/mapping.h"
#include "shm/region/memfd.h"

namespace sluice::test {

inline constexpr std::uint32_t kBoardKeysMax = 1024;
inline constexpr std::uint32_t kBoardMessagesMax = 1 << 21;
inline constexpr std::uint32_t kBoardMembersMax = 4096;

struct GroupMessage {
  std::uint32_t id = 0;  // of all
  std::uint32_t key = 0;
  std::uint32_t number = 0;  // of its key
  std::uint32_t reserved = 0;
};

struct GroupBoardMemory {
  std::atomic<std::uint32_t> stop;
  std::atomic<std::uint32_t> poison;      // 1 + the id of a message that kills whoever begins with it
  std::atomic<std::uint64_t> handled;     // messages, the first time
  std::atomic<std::uint64_t> repeats;     // messages, again
  std::atomic<std::uint64_t> disordered;  // handled before the one of its key that comes before it
  std::atomic<std::uint64_t> errors;
  std::atomic<std::uint64_t> by_member[kBoardMembersMax];
  std::atomic<std::uint32_t> next_of_key[kBoardKeysMax];  // number
  std::atomic<std::uint8_t> count_of[kBoardMessagesMax];
  char error[256];  // the last one
};

class GroupBoard {
 public:
  GroupBoard() : fd_(region::create_memfd("sluice-test-group", sizeof(GroupBoardMemory)).value()) { map(); }
  explicit GroupBoard(int fd) : fd_(fd) { map(); }

  int fd() const { return fd_.get(); }
  GroupBoardMemory* operator->() const { return mapping_.at<GroupBoardMemory>(); }

  void complain(std::string_view text) const {
    std::strncpy((*this)->error, std::string(text).c_str(), sizeof((*this)->error) - 1);
    (*this)->errors.fetch_add(1);
  }
  // What a member does with a message.
  void handle(const GroupMessage& message, std::uint32_t member) const {
    GroupBoardMemory& board = *mapping_.at<GroupBoardMemory>();
    std::uint32_t next = board.next_of_key[message.key].load();
    if (message.number > next) board.disordered.fetch_add(1);
    while (message.number >= next && !board.next_of_key[message.key].compare_exchange_weak(next, message.number + 1)) {
    }
    if (board.count_of[message.id].fetch_add(1) == 0)
      board.handled.fetch_add(1);
    else
      board.repeats.fetch_add(1);
    board.by_member[member].fetch_add(1);
  }

 private:
  void map() { mapping_ = region::Mapping::map(fd_.get(), region::Access::read_write, "the board").value(); }

  UniqueFd fd_;
  region::Mapping mapping_;
};

}  // namespace sluice::test
