// What a command prints: exact bytes, tables, errors, progress.
//
// Owner: the command's thread; Progress of a waiting call has a thread of its own that writes to stderr alone.
//
// Invariants
//  1. Nothing but data goes to stdout, and nothing is added to a payload or taken from it.
//  2. Colours and progress are for terminals: a pipe or NO_COLOR sees plain text.
//  3. After a reader has gone (EPIPE) a Writer is broken(), and writing is a no-op: commands look and end.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "sdk/cli/exit_code.h"
#include "shm/base/result.h"

namespace sluice::cli {

// Collects bytes and writes them in large pieces.
class Writer {
 public:
  explicit Writer(int fd) : fd_(fd) { buffer_.reserve(kFlushSize * 2); }
  ~Writer() { flush(); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // Append here, then call written().
  std::string& buffer() { return buffer_; }
  void written() {
    if (buffer_.size() >= kFlushSize) flush();
  }
  void write(std::string_view bytes) {
    buffer_ += bytes;
    written();
  }
  void flush();
  // The reader is gone, the disk is full, or the user has interrupted a write that was stuck.
  bool broken() const { return broken_; }
  // errno of the write that broke it; 0 or EPIPE or EINTR say that nobody wants more.
  int broken_errno() const { return broken_errno_; }

 private:
  static constexpr std::size_t kFlushSize = 256 * 1024;
  int fd_;
  std::string buffer_;
  bool broken_ = false;
  int broken_errno_ = 0;
};

enum class Colour : std::uint8_t { red, green, yellow, bold };
// True if colours may be used on that stream (1 or 2): a terminal, TERM not "dumb", NO_COLOR not set.
bool colours_on(int fd);
// The text, coloured if it may be on that stream.
std::string coloured(int fd, Colour colour, std::string_view text);

// Columns as wide as their widest cell, two spaces between. `right`: columns of numbers.
class Table {
 public:
  explicit Table(std::vector<std::string> header, std::vector<bool> right = {});
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string text() const;

 private:
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

// 4194304 → "4.0 MiB"; 1234567 → "1,234,567"; for people, not to be read back.
std::string human_size(std::uint64_t bytes);
std::string human_count(std::uint64_t count);
std::string human_duration(std::uint64_t ns);

// Control characters and escape sequences as \xNN: names and reasons come from others, and go to a terminal.
std::string printable(std::string_view text);

// "sluice produce: what (code)" and, where there is something to do, a second line. Returns the exit code.
ExitCode report(std::string_view command, const Error& error);
// A usage error that CLI11 cannot see. Returns kExitUsage.
ExitCode report_usage(std::string_view command, std::string_view what);

// A line that is written over and over on a terminal's stderr; nothing elsewhere. Shown from the first second on.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  // Cheap: looks at the clock only. `text` is asked for at most five times a second.
  template <typename Text>
  void update(Text text) {
    if (on_ && due()) show(text());
  }
  void clear();

 private:
  bool due();
  void show(const std::string& text);
  bool on_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point next_;
};

// Says on a terminal, from the second second on, that a call takes its time: "auditing orders … 3 s".
class Waiting {
 public:
  explicit Waiting(std::string what);
  ~Waiting();
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  void run();
  std::string what_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool end_ = false;
  std::thread thread_;  // not started where there is no terminal
};

}  // namespace sluice::cli
