// What `sluice consume` does with and without a group: prints messages, says what was lost, knows when to give up.
//
// Owner: the command's thread.
//
// Invariants
//  1. What was printed is in the output's buffer until flush(); nothing waits for more messages before it was flushed.
//  2. After broken() nothing more reaches stdout: what was not flushed before was not delivered.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sdk/cli/exit_code.h"
#include "sdk/cli/message_text.h"
#include "sdk/cli/output.h"
#include "shm/base/result.h"
#include "sluice/client.h"

namespace sluice::cli {

// How long a wait goes on without looking whether the user wants to end.
inline constexpr auto kConsumeWaitSlice = std::chrono::milliseconds(100);
inline constexpr int kConsumeAwaySleepMs = 50;

struct ConsumeFlags {
  std::vector<std::string> topics;
  std::vector<std::uint32_t> partitions;
  std::string from, tag, format, timeout;
  std::string group, mode;  // with --group alone
  std::uint64_t count = 0;
  bool exit = false;
  bool json = false;
  bool no_ack = false;
  bool payload = false;  // msg show
};

// The flags that were parsed beyond their form.
struct ConsumeSettings {
  From from;
  std::optional<Format> format;
  std::optional<Duration> timeout;
};

void read_fields(const Message& message, MessageFields& fields);

class ConsumeOutput {
 public:
  ConsumeOutput(const ConsumeFlags& flags, const std::optional<Format>& format);

  void print(const Message& message, std::uint32_t delivered = 1, std::uint32_t failed = 0);
  void flush() { out_.flush(); }
  bool broken() const { return out_.broken(); }
  std::uint64_t messages() const { return messages_; }
  bool enough() const { return flags_.count != 0 && messages_ >= flags_.count; }

  // The first ones on stderr, and all in the summary.
  void on_loss(const LossEvent& event);
  // A progress line, where data does not go to the terminal itself.
  void show_progress();
  // Reports what ended it; the exit code for finish().
  ExitCode report_end(const Error& error);
  // Flushes and prints the summary, with `note` behind it. Returns the command's exit code.
  int finish(ExitCode exit, const std::string& note = {});

 private:
  using Clock = std::chrono::steady_clock;
  std::string progress() const;

  const ConsumeFlags& flags_;
  const std::optional<Format>& format_;
  const bool show_progress_;
  const Clock::time_point started_ = Clock::now();
  MessageFields fields_;
  Writer out_;
  ProgressLine progress_;
  std::uint64_t messages_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t losses_ = 0;
  std::uint64_t corrupt_ = 0;
};

// When a consumer gives up: no message for --timeout, or a daemon that stays away from one that is to end.
class Patience {
 public:
  Patience(const ConsumeFlags& flags, std::optional<Duration> timeout);
  void message_came() { last_message_ = Clock::now(); }
  // The daemon does not answer; true: wait on. The SDK connects again by itself.
  bool wait_for_daemon();
  void daemon_answers() { away_since_.reset(); }
  bool timed_out() const { return timeout_ && Clock::now() - last_message_ >= *timeout_; }
  // How long to wait for the next message.
  Duration slice() const;

 private:
  using Clock = std::chrono::steady_clock;
  const bool has_end_;
  const std::optional<Duration> timeout_;
  Clock::time_point last_message_ = Clock::now();
  std::optional<Clock::time_point> away_since_;
};

// sluice consume --group
int consume_in_group(Client& client, const ConsumeFlags& flags, const ConsumeSettings& settings);

}  // namespace sluice::cli
