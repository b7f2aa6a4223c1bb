// sluice top: the rates of topics and the lag of groups, drawn again and again.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <optional>

#include "sdk/cli/arguments.h"
#include "sdk/cli/command.h"
#include "sdk/cli/group_text.h"
#include "sdk/cli/interrupt.h"

namespace sluice::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kHomeAndClear = "\x1b[H\x1b[2J";

struct TopFlags {
  std::string interval = "2s";
  std::uint64_t count = 0;  // 0: until it is interrupted
};

// What a topic had when it was looked at last.
struct Seen {
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;  // of log, ever
};

Seen seen_of(const TopicInfo& topic) {
  Seen seen;
  for (const PartitionInfo& partition : topic.partitions) {
    seen.messages += partition.records;
    seen.bytes += partition.committed.value;
  }
  return seen;
}

class Top {
 public:
  explicit Top(Client& client) : client_(client) {}

  // One picture. Rates are those since the last one.
  Result<std::string> draw() {
    SLUICE_ASSIGN(const std::vector<TopicInfo> topics, client_.topics());
    SLUICE_ASSIGN(const std::vector<GroupInfo> groups, client_.groups());
    const auto now = Clock::now();
    std::string out = topics.empty() ? "no topics\n" : topics_text(topics, std::chrono::duration<double>(now - last_));
    last_ = now;
    return out + "\n" + (groups.empty() ? "no groups\n" : group_rates_text(groups));
  }

 private:
  std::string topics_text(const std::vector<TopicInfo>& topics, std::chrono::duration<double> since) {
    Table table({"TOPIC", "PARTITIONS", "MESSAGES", "PRODUCED", "OF LOG", "PRODUCERS", "READERS"},
                {false, true, true, true, true, true, true});
    std::map<std::uint32_t, Seen> now;
    for (const TopicInfo& topic : topics) {
      const Seen seen = seen_of(topic);
      now[topic.id.value] = seen;
      const auto before = seen_.find(topic.id.value);
      std::string messages = "-";
      std::string bytes = "-";
      // Retention takes messages away: what is left says nothing of what came then.
      if (before != seen_.end() && seen.messages >= before->second.messages)
        messages = rate_text(static_cast<double>(seen.messages - before->second.messages) / since.count());
      if (before != seen_.end() && seen.bytes >= before->second.bytes)
        bytes = human_size(static_cast<std::uint64_t>(static_cast<double>(seen.bytes - before->second.bytes) /
                                                      since.count())) +
                "/s";
      table.add({topic.config.name, std::to_string(topic.config.partitions), human_count(seen.messages), messages,
                 bytes, std::to_string(topic.producers), std::to_string(topic.readers)});
    }
    seen_ = std::move(now);
    return table.text();
  }

  Client& client_;
  std::map<std::uint32_t, Seen> seen_;  // by topic id
  Clock::time_point last_ = Clock::now();
};

int top(const Context& context, const TopFlags& flags) {
  const auto interval = duration_argument(flags.interval);
  if (!interval || *interval == 0)
    return report_usage("top", "--interval: " + (interval ? "it must be above 0" : interval.error().context()));
  auto client = connect_for_long(context, "top");
  if (!client) return report("top", client.error());
  const bool screen = ::isatty(STDOUT_FILENO) == 1;
  Top picture(*client);
  Writer out(STDOUT_FILENO);
  const auto pause_ms = static_cast<int>(std::min<std::uint64_t>((*interval + 999'999) / 1'000'000, INT32_MAX));
  for (std::uint64_t drawn = 0; !interrupt::requested() && !out.broken();) {
    const auto text = picture.draw();
    if (!text) return report("top", text.error());
    if (screen) out.write(kHomeAndClear);
    out.write(*text);
    if (!screen) out.write("\n");
    out.flush();
    if (++drawn == flags.count) break;
    interrupt::sleep_ms(pause_ms);
  }
  return kExitDone;
}

}  // namespace

void add_top_command(CLI::App& app, Context& context) {
  CLI::App& sub = *app.add_subcommand("top", "The rates of topics and the lag of groups, again and again");
  const auto flags = std::make_shared<TopFlags>();
  sub.add_option("--interval", flags->interval, "Between two pictures (2s)")->type_name("DUR");
  sub.add_option("--count", flags->count, "End after so many pictures")->type_name("N")->check(CLI::PositiveNumber);
  sub.callback([&context, flags] { context.run = [&context, flags] { return top(context, *flags); }; });
}

}  // namespace sluice::cli
