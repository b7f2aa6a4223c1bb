// Lines of a descriptor, quickly: large reads, one memchr a line, no copy of a line that lies whole in the buffer.
//
// Owner: one thread. A line is a view that is good until the next call of next().
//
// Invariants
//  1. Each newline ends one line, an empty one too; a last line without a newline is a line.
//  2. Memory stays below line_size_max + the size of one read: what is longer is counted and passed over to its
//  newline.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "shm/base/result.h"

namespace sluice::cli {

class LineReader {
 public:
  enum class Event : std::uint8_t {
    line,         // text()
    too_large,    // a line of size() bytes was passed over
    end,          // of the input
    interrupted,  // the stop descriptor is readable
  };

  // `stop_fd`: ends the waiting; −1: none. `on_idle` is called before a read that would wait (may be empty).
  LineReader(int fd, std::size_t line_size_max, int stop_fd, std::function<void()> on_idle);

  // io, with the errno, if reading fails.
  Result<Event> next();
  std::string_view text() const { return text_; }
  // Bytes of the line without its newline, also of one that was passed over.
  std::uint64_t size() const { return size_; }

 private:
  enum class Fill : std::uint8_t { data, end, interrupted };
  Result<Fill> fill();
  void make_room();
  Result<Event> pass_over();

  const int fd_;
  const std::size_t line_size_max_;
  const int stop_fd_;
  const std::function<void()> on_idle_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;  // of the line that comes next
  std::size_t end_ = 0;    // of what was read
  bool at_end_ = false;
  std::string_view text_;
  std::uint64_t size_ = 0;
};

}  // namespace sluice::cli
