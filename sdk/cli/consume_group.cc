// sluice consume --group: prints a batch, flushes it, and only then acks it, so that a message whose reader is gone
// comes again.

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "sdk/cli/arguments.h"
#include "sdk/cli/command.h"
#include "sdk/cli/consume.h"
#include "sdk/cli/interrupt.h"

namespace sluice::cli {
namespace {

using Clock = std::chrono::steady_clock;

// Messages and bytes of them that are printed before they are acked: more would hold too many segments in memory.
constexpr std::size_t kBatchMax = 256;
constexpr std::size_t kBatchBytesMax = 256 * 1024;
// Nothing came for so long: what is due again would have come.
constexpr auto kQuietTime = std::chrono::milliseconds(300);
constexpr auto kEndCheckInterval = std::chrono::milliseconds(200);

// --exit: the ends of the group's partitions as they stood when the member had joined.
class GroupEnd {
 public:
  static Result<GroupEnd> take(Client& client, const std::string& group) {
    SLUICE_ASSIGN(const GroupInfo info, client.group(group));
    GroupEnd end(group);
    for (const GroupPartitionInfo& partition : info.partitions) end.ends_.push_back(partition);
    return end;
  }

  bool is_beyond(const Message& message) const {
    return std::any_of(ends_.begin(), ends_.end(), [&](const GroupPartitionInfo& partition) {
      return partition.partition == message.partition() && partition.topic == message.topic() &&
             message.position() >= partition.end;
    });
  }

  // Settled up to it by whichever member; the daemon hears the members out before it answers. Without acks: all of it
  // is in somebody's hands.
  Result<bool> reached(Client& client, bool acking) const {
    SLUICE_ASSIGN(const GroupInfo now, client.group(group_));
    return std::all_of(now.partitions.begin(), now.partitions.end(), [&](const GroupPartitionInfo& partition) {
      if (!acking) return partition.ready == 0;
      const std::optional<Position> end = end_of(partition);
      // A cursor passes what others hold of a shared partition; one that is beyond the end has to do with later ones.
      return !end || partition.cursor > *end ||
             ((partition.cursor == *end || partition.lag_messages == 0) && partition.in_flight == 0);
    });
  }

 private:
  explicit GroupEnd(std::string group) : group_(std::move(group)) {}
  // Nothing for a partition that was added since.
  std::optional<Position> end_of(const GroupPartitionInfo& partition) const {
    for (const GroupPartitionInfo& known : ends_)
      if (known.partition == partition.partition && known.topic_id == partition.topic_id) return known.end;
    return std::nullopt;
  }

  std::string group_;
  std::vector<GroupPartitionInfo> ends_;
};

class GroupConsume {
 public:
  GroupConsume(Client& client, const ConsumeFlags& flags, const ConsumeSettings& settings)
      : client_(client), flags_(flags), output_(flags, settings.format), patience_(flags, settings.timeout) {}

  int run(ConsumerOptions options);

 private:
  ExitCode loop(Consumer& consumer);
  void take(Delivery delivery);
  // Flushes what was printed, then acks it.
  Status settle(Consumer& consumer);
  // True if --exit has come to its end.
  Result<bool> at_end();
  bool batch_is_full() const { return printed_.size() >= kBatchMax || printed_bytes_ >= kBatchBytesMax; }

  Client& client_;
  const ConsumeFlags& flags_;
  ConsumeOutput output_;
  Patience patience_;
  std::vector<Delivery> printed_;  // and not acked yet
  std::size_t printed_bytes_ = 0;
  std::optional<GroupEnd> end_;  // --exit
  bool beyond_end_ = false;      // a message was behind it
  Clock::time_point last_message_ = Clock::now();
  Clock::time_point next_end_check_ = Clock::now();
};

void GroupConsume::take(Delivery delivery) {
  const Message& message = delivery.message();
  output_.print(message, delivery.delivered(), delivery.failed());
  if (end_ && !beyond_end_) beyond_end_ = end_->is_beyond(message);
  printed_bytes_ += message.payload().size();
  printed_.push_back(std::move(delivery));
  patience_.message_came();
  last_message_ = Clock::now();
}

Status GroupConsume::settle(Consumer& consumer) {
  output_.flush();
  const std::vector<Delivery> batch = std::exchange(printed_, {});
  printed_bytes_ = 0;
  if (batch.empty() || flags_.no_ack || output_.broken()) return {};
  const Status acked = consumer.ack(batch);
  // What is another member's by now is decided there, and counted in the summary.
  if (!acked && acked.error().code() != ErrorCode::conflict) return acked;
  return {};
}

Result<bool> GroupConsume::at_end() {
  const auto now = Clock::now();
  if (!end_ || now < next_end_check_) return false;
  if (!beyond_end_ && now - last_message_ < kQuietTime) return false;
  next_end_check_ = now + kEndCheckInterval;
  return end_->reached(client_, !flags_.no_ack);
}

ExitCode GroupConsume::loop(Consumer& consumer) {
  Duration wait{0};
  while (!output_.enough() && !interrupt::requested() && !output_.broken()) {
    auto delivery = consumer.next(wait);
    if (delivery) {
      patience_.daemon_answers();
      take(std::move(*delivery));
      wait = Duration{0};
      if (!batch_is_full()) continue;
    }
    const bool let_go = !printed_.empty();
    if (Status settled = settle(consumer); !settled) return output_.report_end(settled.error());
    output_.show_progress();
    const std::optional<ErrorCode> failed = delivery ? std::nullopt : std::optional(delivery.error().code());
    if (failed == ErrorCode::no_daemon && patience_.wait_for_daemon()) {
      wait = kConsumeWaitSlice;
      interrupt::sleep_ms(kConsumeAwaySleepMs);
      continue;
    }
    if (failed == ErrorCode::quota && let_go) continue;  // the batch held the segments
    if (failed && failed != ErrorCode::timed_out) return output_.report_end(delivery.error());
    patience_.daemon_answers();
    const auto ended = at_end();
    if (!ended) return output_.report_end(ended.error());
    if (*ended) return kExitDone;
    if (!failed) continue;
    if (patience_.timed_out())
      return output_.report_end(Error(ErrorCode::timed_out, "no message came for " + flags_.timeout));
    wait = patience_.slice();
  }
  const Status settled = settle(consumer);
  return settled ? kExitDone : output_.report_end(settled.error());
}

int GroupConsume::run(ConsumerOptions options) {
  options.on_loss = [this](const LossEvent& event) { output_.on_loss(event); };
  options.on_rebalance = [this](const Rebalance& change) {
    if (change.kind != Rebalance::Kind::lost) return;
    report_usage("consume", std::string(change.topic) + "/" + std::to_string(change.partition) +
                                " was given to others: this member was too slow to answer, or the group is gone");
  };
  auto consumer = client_.consumer(flags_.topics, std::move(options));
  if (!consumer) return report("consume", consumer.error());
  if (flags_.exit) {
    auto end = GroupEnd::take(client_, flags_.group);
    if (!end) return report("consume", end.error());
    end_ = std::move(*end);
  }
  ExitCode exit = loop(*consumer);
  if (Status closed = consumer->close(); !closed && exit == kExitDone) exit = output_.report_end(closed.error());
  const std::uint64_t stale = consumer->counters().stale;
  return output_.finish(exit,
                        stale == 0 ? "" : ", " + std::to_string(stale) + " acks refused (these messages come again)");
}

// Of a group that is there its own, where --mode says nothing.
Result<GroupMode> mode_of(Client& client, const ConsumeFlags& flags) {
  if (!flags.mode.empty()) return group_mode_argument(flags.mode);
  const auto group = client.group(flags.group);
  if (group) return group->config.mode;
  if (group.error().code() == ErrorCode::not_found) return GroupMode::ordered;
  return fail(group.error());
}

}  // namespace

int consume_in_group(Client& client, const ConsumeFlags& flags, const ConsumeSettings& settings) {
  const auto mode = mode_of(client, flags);
  if (!mode) return report("consume", mode.error());
  ConsumerOptions options;
  options.group = flags.group;
  options.mode = *mode;
  options.from = settings.from;
  options.tag = flags.tag;
  GroupConsume run(client, flags, settings);
  return run.run(std::move(options));
}

}  // namespace sluice::cli
