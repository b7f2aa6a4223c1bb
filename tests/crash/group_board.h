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

#include "shm/base/clock.h"
#include "shm/base/fd.h"
#include "shm/region/mapping.h"
#include "shm/region/memfd.h"

namespace sluice::test {

inline constexpr std::uint32_t kBoardKeysMax = 1024;
inline constexpr std::uint32_t kBoardMessagesMax = 1 << 21;
inline constexpr std::uint32_t kBoardMembersMax = 4096;
inline constexpr std::uint32_t kBoardPartitionsMax = 64;

struct GroupMessage {
  std::uint32_t id = 0;  // of all
  std::uint32_t key = 0;
  std::uint32_t number = 0;  // of its key
  std::uint32_t reserved = 0;
  std::uint64_t sent_ns = 0;  // monotonic
};

// Who has handled a message, and how long after it was sent.
struct HandledBy {
  std::atomic<std::uint32_t> member;  // 1 + its number; 0: nobody yet
  std::atomic<std::uint32_t> after_us;
};

// From the death of a member to the first message of its partition at another one: the test says which, then kills.
struct TakeOver {
  std::atomic<std::uint32_t> partition;  // 1 + its number; 0: none is watched
  std::atomic<std::uint32_t> victim;     // its number
  std::atomic<std::uint64_t> at_ns;      // monotonic: handled by another one
};

struct GroupBoardMemory {
  std::atomic<std::uint32_t> stop;
  std::atomic<std::uint32_t> poison;      // 1 + the id of a message that kills whoever begins with it
  std::atomic<std::uint64_t> handled;     // messages, the first time
  std::atomic<std::uint64_t> repeats;     // messages, again
  std::atomic<std::uint64_t> disordered;  // handled before the one of its key that comes before it
  std::atomic<std::uint64_t> errors;
  std::atomic<std::uint32_t> held;     // 1 + the number of a member that keeps what it begins until this changes
  std::atomic<std::uint32_t> holding;  // messages that it has begun
  std::atomic<std::uint64_t> by_member[kBoardMembersMax];
  std::atomic<std::uint64_t> last_of_partition[kBoardPartitionsMax];  // 1 + the member that handled its last message
  TakeOver take_over;
  std::atomic<std::uint32_t> next_of_key[kBoardKeysMax];  // number
  std::atomic<std::uint8_t> count_of[kBoardMessagesMax];
  HandledBy handled_by[kBoardMessagesMax];
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
  void handle(const GroupMessage& message, std::uint32_t member, std::uint32_t partition) const {
    GroupBoardMemory& board = *mapping_.at<GroupBoardMemory>();
    const std::uint64_t now = monotonic_ns();
    if (board.take_over.partition.load() == partition + 1 && board.take_over.victim.load() != member) {
      std::uint64_t nobody = 0;
      board.take_over.at_ns.compare_exchange_strong(nobody, now);
    }
    std::uint32_t next = board.next_of_key[message.key].load();
    if (message.number > next) board.disordered.fetch_add(1);
    while (message.number >= next && !board.next_of_key[message.key].compare_exchange_weak(next, message.number + 1)) {
    }
    board.last_of_partition[partition].store(member + 1);
    if (board.count_of[message.id].fetch_add(1) == 0) {
      board.handled_by[message.id].after_us.store(static_cast<std::uint32_t>((now - message.sent_ns) / 1000));
      board.handled_by[message.id].member.store(member + 1);
      board.handled.fetch_add(1);
    } else {
      board.repeats.fetch_add(1);
    }
    board.by_member[member].fetch_add(1);
  }

 private:
  void map() { mapping_ = region::Mapping::map(fd_.get(), region::Access::read_write, "the board").value(); }

  UniqueFd fd_;
  region::Mapping mapping_;
};

}  // namespace sluice::test
