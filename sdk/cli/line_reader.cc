#include "sdk/cli/line_reader.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace sluice::cli {
namespace {
constexpr std::size_t kReadSize = 1024 * 1024;
}  // namespace

LineReader::LineReader(int fd, std::size_t line_size_max, int stop_fd, std::function<void()> on_idle)
    : fd_(fd), line_size_max_(line_size_max), stop_fd_(stop_fd), on_idle_(std::move(on_idle)), buffer_(kReadSize) {}

Result<LineReader::Event> LineReader::next() {
  std::size_t looked_at = begin_;
  for (;;) {
    const void* newline = std::memchr(buffer_.data() + looked_at, '\n', end_ - looked_at);
    if (newline != nullptr) {
      const char* const start = buffer_.data() + begin_;
      size_ = static_cast<std::uint64_t>(static_cast<const char*>(newline) - start);
      text_ = {start, static_cast<std::size_t>(size_)};
      begin_ += static_cast<std::size_t>(size_) + 1;
      return size_ > line_size_max_ ? Event::too_large : Event::line;
    }
    if (end_ - begin_ > line_size_max_) return pass_over();
    if (!at_end_) {
      const std::size_t in_line = end_ - begin_;
      SLUICE_ASSIGN(const Fill filled, fill());
      if (filled == Fill::interrupted) return Event::interrupted;
      looked_at = begin_ + in_line;  // fill() may have moved the line to the front
      continue;
    }
    if (begin_ == end_) return Event::end;
    size_ = end_ - begin_;
    text_ = {buffer_.data() + begin_, end_ - begin_};
    begin_ = end_;
    return Event::line;
  }
}

// The line at begin_ is too large already: forgets it, up to its newline or the end.
Result<LineReader::Event> LineReader::pass_over() {
  size_ = 0;
  for (;;) {
    const void* newline = std::memchr(buffer_.data() + begin_, '\n', end_ - begin_);
    if (newline != nullptr) {
      const auto rest = static_cast<std::size_t>(static_cast<const char*>(newline) - (buffer_.data() + begin_));
      size_ += rest;
      begin_ += rest + 1;
      return Event::too_large;
    }
    size_ += end_ - begin_;
    begin_ = end_;
    if (at_end_) return Event::too_large;
    SLUICE_ASSIGN(const Fill filled, fill());
    if (filled == Fill::interrupted) return Event::interrupted;
  }
}

void LineReader::make_room() {
  if (begin_ == end_) begin_ = end_ = 0;
  if (buffer_.size() - end_ >= kReadSize / 2) return;
  if (begin_ != 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() - end_ < kReadSize / 2)
    buffer_.resize(std::min(buffer_.size() * 2, line_size_max_ + 2 * kReadSize));
}

Result<LineReader::Fill> LineReader::fill() {
  make_room();
  pollfd waits[2] = {{fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
  for (;;) {
    int ready = ::poll(waits, 2, 0);
    if (ready == 0) {
      if (on_idle_) on_idle_();
      ready = ::poll(waits, 2, -1);
    }
    if (ready < 0 && errno != EINTR) return fail(system_error(errno, "waiting for input"));
    if (ready < 0) continue;
    if (waits[1].revents != 0) return Fill::interrupted;
    const ssize_t got = ::read(fd_, buffer_.data() + end_, buffer_.size() - end_);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return fail(system_error(errno, "reading the input"));
    if (got == 0) {
      at_end_ = true;
      return Fill::end;
    }
    end_ += static_cast<std::size_t>(got);
    return Fill::data;
  }
}

}  // namespace sluice::cli
