// Where processes that are about to be killed leave word of what they have done: a memfd that the test maps too.
//
// Invariant: a worker notes an attempt before it sends and a receipt after it got it, so that at its death at most the
// one message between the two is open. One writer per word (the worker of that index; `stop` is the test's).
//
// A message's bytes follow from (worker, counter) alone, so that whoever reads one can tell whether it is whole.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "shm/base/fd.h"
#include "shm/base/types.h"

namespace sluice::test {

inline constexpr std::uint32_t kWorkersMax = 1024;
inline constexpr std::uint32_t kNotesMax = 1 << 21;  // of all workers that note receipts

inline constexpr std::uint32_t kNoteUnwritten = 0;
inline constexpr std::uint32_t kNoteCommitted = 1;
inline constexpr std::uint32_t kNoteDurable = 2;
inline constexpr std::uint32_t kNoteExpired = 3;  // its commit came too late: nothing was sent
inline constexpr std::uint32_t kNoteSeen = 4;     // by a consumer: worker and counter are the sender's

// A receipt as its holder knew it.
struct Note {
  std::uint64_t counter;
  std::uint64_t position;
  std::uint64_t sequence;
  std::uint32_t producer;  // the id that it was sent under: another one after each restart of the daemon
  std::uint32_t worker;
  std::uint32_t partition;
  // kNote…: what became of the message. release by its worker, acquire by the test.
  std::atomic<std::uint32_t> state;
};

struct Worker {
  std::atomic<std::uint64_t> attempted;  // counter of the message that is being sent, or was last
  std::atomic<std::uint64_t> confirmed;  // counter of the last one with a receipt
  std::atomic<std::uint64_t> failed;     // sends that ended with an error
  std::atomic<std::uint64_t> durable;    // receipts that were durable
  char error[232];                       // the last one
};

struct BoardMemory {
  std::atomic<std::uint32_t> stop;
  std::atomic<std::uint32_t> notes_used;
  Worker workers[kWorkersMax];
  Note notes[kNotesMax];
};

class Board {
 public:
  Board();                 // a new one, all zero
  explicit Board(int fd);  // in a worker: the one that was inherited
  ~Board();
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  int fd() const { return fd_.get(); }
  BoardMemory* operator->() const { return memory_; }
  // A cell for one more note, or null if all are used.
  Note* new_note() const;

 private:
  UniqueFd fd_;
  BoardMemory* memory_;
};

// 24 to about 1500 bytes; now and then 12 KiB.
std::string make_payload(std::uint32_t worker, std::uint64_t counter);

struct Origin {
  std::uint32_t worker = 0;
  std::uint64_t counter = 0;
};
// Who sent it; false if any byte is not as it was made.
bool parse_payload(std::string_view payload, Origin& origin);

}  // namespace sluice::test
