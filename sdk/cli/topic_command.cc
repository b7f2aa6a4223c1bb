// sluice topic create | list | describe | alter | delete | recover (scrub: scrub_command.cc)

#include <charconv>
#include <chrono>
#include <memory>
#include <optional>
#include <system_error>

#include "sdk/cli/arguments.h"
#include "sdk/cli/command.h"
#include "sdk/cli/message_text.h"

namespace sluice::cli {
namespace {

// As typed; empty: not given.
struct TopicFlags {
  std::string name;
  std::uint32_t partitions = 0;
  std::string durability, visibility, segment_size, retention_bytes, retention_time, message_ttl, overflow,
      claim_deadline, checksum, time;
  std::uint32_t slots = 0;
  std::vector<std::string> publishers, consumers, mirrors;
  bool json = false;
  bool yes = false;
};

Duration as_duration(std::uint64_t ns) { return Duration(static_cast<Duration::rep>(ns)); }

// Sets `to` if the flag was given.
template <typename T, typename Parse>
Status take(const std::string& flag, T& to, Parse parse) {
  if (flag.empty()) return {};
  SLUICE_ASSIGN(to, parse(flag));
  return {};
}

Result<std::uint64_t> size_or_none(std::string_view text) { return size_argument(text, true); }
Result<Duration> duration_or_none(std::string_view text) {
  SLUICE_ASSIGN(const std::uint64_t ns, duration_argument(text, true));
  return as_duration(ns);
}
Result<bool> on_or_off(std::string_view text) {
  if (text == "on") return true;
  if (text == "off") return false;
  return fail(ErrorCode::invalid, "\"" + std::string(text) + "\" is neither on nor off");
}

Result<TopicConfig> config_of(const TopicFlags& flags) {
  TopicConfig config;
  config.name = flags.name;
  if (flags.partitions != 0) config.partitions = flags.partitions;
  config.slots = flags.slots;
  config.publishers = flags.publishers;
  config.consumers = flags.consumers;
  config.mirrors = flags.mirrors;
  SLUICE_TRY(take(flags.durability, config.durability, durability_argument));
  SLUICE_TRY(take(flags.visibility, config.visibility, visibility_argument));
  SLUICE_TRY(take(flags.segment_size, config.segment_size, [](std::string_view t) { return size_argument(t); }));
  SLUICE_TRY(take(flags.retention_bytes, config.retention_bytes, size_or_none));
  SLUICE_TRY(take(flags.retention_time, config.retention_time, duration_or_none));
  SLUICE_TRY(take(flags.message_ttl, config.message_ttl, duration_or_none));
  SLUICE_TRY(take(flags.overflow, config.overflow, overflow_argument));
  SLUICE_TRY(take(flags.claim_deadline, config.claim_deadline, duration_or_none));
  SLUICE_TRY(take(flags.checksum, config.checksum, on_or_off));
  SLUICE_TRY(take(flags.time, config.time_mode, time_mode_argument));
  return config;
}

Result<TopicChange> change_of(const TopicFlags& flags) {
  TopicChange change;
  if (flags.partitions != 0) change.partitions = flags.partitions;
  SLUICE_TRY(take(flags.retention_bytes, change.retention_bytes, size_or_none));
  SLUICE_TRY(take(flags.retention_time, change.retention_time, duration_or_none));
  SLUICE_TRY(take(flags.message_ttl, change.message_ttl, duration_or_none));
  SLUICE_TRY(take(flags.overflow, change.overflow, overflow_argument));
  return change;
}

int create(const Context& context, const TopicFlags& flags) {
  const std::string command = "topic create";
  const auto config = config_of(flags);
  if (!config) return report_usage(command, config.error().context());
  return with_client(context, command, [&](Client& client) -> int {
    const Waiting waiting("creating " + flags.name);
    if (Status done = client.create_topic(*config); !done) return report(command, done.error());
    return kExitDone;
  });
}

std::string limit_text(std::uint64_t value, std::string text) { return value == 0 ? "none" : std::move(text); }

std::string state_text(const TopicInfo& topic) {
  for (const PartitionInfo& partition : topic.partitions)
    if (partition.state != PartitionState::open)
      return coloured(1, Colour::red,
                      std::string(name(partition.state)) + " (" + std::to_string(partition.partition) + ")");
  return "open";
}

std::string list_text(const std::vector<TopicInfo>& topics) {
  Table table({"TOPIC", "PARTITIONS", "DURABILITY", "MESSAGES", "ON DISK", "PRODUCERS", "READERS", "STATE"},
              {false, true, false, true, true, true, true, false});
  for (const TopicInfo& topic : topics) {
    std::uint64_t records = 0;
    std::uint64_t bytes = 0;
    for (const PartitionInfo& partition : topic.partitions) {
      records += partition.records;
      bytes += partition.file_bytes;
    }
    table.add({topic.config.name, std::to_string(topic.config.partitions),
               std::string(name(topic.config.durability.value_or(Durability::async))), std::to_string(records),
               human_size(bytes), std::to_string(topic.producers), std::to_string(topic.readers), state_text(topic)});
  }
  return table.text();
}

int list(const Context& context, const TopicFlags& flags) {
  const std::string command = "topic list";
  return with_client(context, command, [&](Client& client) -> int {
    const auto topics = client.topics();
    if (!topics) return report(command, topics.error());
    if (flags.json) {
      print_json(to_json(*topics));
    } else if (topics->empty()) {
      print("no topics; make one with: sluice topic create NAME\n");
    } else {
      print(list_text(*topics));
    }
    return kExitDone;
  });
}

std::string names(const std::vector<std::string>& list, const char* if_none) {
  std::string out;
  for (const std::string& one : list) out += (out.empty() ? "" : ", ") + one;
  return out.empty() ? if_none : out;
}

std::string settings_text(const TopicInfo& topic) {
  const TopicConfig& c = topic.config;
  const std::uint64_t retention_bytes = c.retention_bytes.value_or(0);
  const auto retention_ns = static_cast<std::uint64_t>(c.retention_time.value_or(Duration(0)).count());
  const auto deadline_ns = static_cast<std::uint64_t>(c.claim_deadline.value_or(Duration(0)).count());
  Table table({"topic", c.name});
  const auto row = [&table](std::string what, std::string value) { table.add({std::move(what), std::move(value)}); };
  row("id", std::to_string(topic.id.value));
  row("created", rfc3339(topic.created_ns));
  row("durability", std::string(name(c.durability.value_or(Durability::async))));
  row("visibility", std::string(name(c.visibility)));
  row("memory", std::to_string(c.slots) + " slots of " + human_size(c.segment_size) + " in each of " +
                    std::to_string(c.partitions) + " partitions");
  row("retention", "bytes " + limit_text(retention_bytes, human_size(retention_bytes)) + ", time " +
                       limit_text(retention_ns, human_duration(retention_ns)));
  const auto ttl_ns = static_cast<std::uint64_t>(c.message_ttl.count());
  row("time to live", limit_text(ttl_ns, human_duration(ttl_ns)));
  row("overflow", std::string(name(c.overflow)));
  row("claim deadline", limit_text(deadline_ns, human_duration(deadline_ns)));
  row("checksum", c.checksum ? "on" : "off");
  row("time", std::string(name(c.time_mode)));
  row("publishers", names(c.publishers, "whoever may connect"));
  row("consumers", names(c.consumers, "whoever may connect"));
  row("mirrors", names(c.mirrors, "none of its own"));
  row("open now", std::to_string(topic.producers) + " producers, " + std::to_string(topic.readers) + " readers");
  return table.text();
}

std::string partitions_text(const TopicInfo& topic) {
  Table table({"PARTITION", "STATE", "EARLIEST", "COMMITTED", "DURABLE", "MESSAGES", "FILES", "ON DISK", "SLOTS",
               "PINNED", "CLAIMS", "DAMAGED"},
              {true, false, true, true, true, true, true, true, true, true, true, true});
  for (const PartitionInfo& p : topic.partitions)
    table.add({std::to_string(p.partition), std::string(name(p.state)), std::to_string(p.earliest.value),
               std::to_string(p.committed.value), std::to_string(p.durable.value), std::to_string(p.records),
               std::to_string(p.file_count), human_size(p.file_bytes), std::to_string(p.slots_used),
               std::to_string(p.slots_pinned), std::to_string(p.open_claims), std::to_string(p.corrupt_records)});
  std::string out = table.text();
  for (const PartitionInfo& p : topic.partitions)
    if (p.delayed != 0)
      out += "partition " + std::to_string(p.partition) + ", delayed messages that wait: " + std::to_string(p.delayed) +
             ", the next is due at " + rfc3339(p.next_due_ns) + "\n";
  for (const PartitionInfo& p : topic.partitions)
    if (p.open_halves != 0)
      out += "partition " + std::to_string(p.partition) +
             ", messages of undecided transactions: " + std::to_string(p.open_halves) + "\n";
  for (const PartitionInfo& p : topic.partitions)
    if (p.state != PartitionState::open)
      out += coloured(1, Colour::red,
                      "partition " + std::to_string(p.partition) + " is " + std::string(name(p.state)) + ": " +
                          printable(p.reason)) +
             "\n";
  return out;
}

int describe(const Context& context, const TopicFlags& flags) {
  const std::string command = "topic describe";
  return with_client(context, command, [&](Client& client) -> int {
    const auto topic = client.topic(flags.name);
    if (!topic) return report(command, topic.error());
    if (flags.json) {
      print_json(to_json(*topic));
    } else {
      print(settings_text(*topic) + "\n" + partitions_text(*topic));
    }
    return kExitDone;
  });
}

int alter(const Context& context, const TopicFlags& flags) {
  const std::string command = "topic alter";
  const auto change = change_of(flags);
  if (!change) return report_usage(command, change.error().context());
  if (!flags.mirrors.empty())
    return report_usage(command, "the mirrors of a topic are fixed when it is made; make another one with --mirror");
  if (!change->partitions && !change->retention_bytes && !change->retention_time && !change->message_ttl &&
      !change->overflow)
    return report_usage(command,
                        "nothing to change; give --partitions, --retention-bytes, --retention-time, --message-ttl or "
                        "--overflow");
  if (change->partitions && !flags.yes)
    return report_usage(command,
                        "with more partitions of " + flags.name +
                            ", keys go to other partitions than before from then on, so that the order of a key "
                            "holds on either side of the change only; say --yes to do it");
  return with_client(context, command, [&](Client& client) -> int {
    const Waiting waiting("altering " + flags.name);
    if (Status done = client.alter_topic(flags.name, *change); !done) return report(command, done.error());
    return kExitDone;
  });
}

int remove(const Context& context, const TopicFlags& flags) {
  const std::string command = "topic delete";
  return with_client(context, command, [&](Client& client) -> int {
    const Waiting waiting("deleting " + flags.name);
    if (Status done = client.delete_topic(flags.name); !done) return report(command, done.error());
    return kExitDone;
  });
}

// NAME or NAME/PARTITION: a name has no slash.
int recover(const Context& context, const TopicFlags& flags) {
  const std::string command = "topic recover";
  std::string name = flags.name;
  std::optional<PartitionNumber> partition;
  if (const std::size_t slash = name.find('/'); slash != std::string::npos) {
    PartitionNumber number = 0;
    const char* const end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data() + slash + 1, end, number);
    if (error != std::errc() || stop != end)
      return report_usage(command, "\"" + flags.name + "\" is neither NAME nor NAME/PARTITION");
    partition = number;
    name.resize(slash);
  }
  return with_client(context, command, [&](Client& client) -> int {
    const Waiting waiting("recovering " + flags.name);
    if (Status done = client.recover_topic(name, partition); !done) return report(command, done.error());
    return kExitDone;
  });
}

void add_retention(CLI::App& sub, TopicFlags& flags) {
  sub.add_option("--retention-bytes", flags.retention_bytes, "Log bytes kept per partition")->type_name("SIZE|none");
  sub.add_option("--retention-time", flags.retention_time, "How long messages are kept")->type_name("DUR|none");
  sub.add_option("--message-ttl", flags.message_ttl, "Consumers pass over what is older (none)")->type_name("DUR|none");
  sub.add_option("--overflow", flags.overflow, "Of a volatile topic whose memory is full")
      ->type_name("block|drop-oldest");
}

void add_create(CLI::App& group, Context& context) {
  CLI::App& sub = *group.add_subcommand("create", "Make a topic");
  const auto flags = std::make_shared<TopicFlags>();
  sub.add_option("NAME", flags->name, "1 to 200 of A-Z a-z 0-9 . _ -")->required();
  sub.add_option("--partitions", flags->partitions, "Logs that are ordered each for itself (1)")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  sub.add_option("--durability", flags->durability, "What a send means (the daemon's: async)")
      ->type_name("volatile|async|sync");
  sub.add_option("--visibility", flags->visibility, "When consumers see a message (committed)")
      ->type_name("committed|durable");
  sub.add_option("--segment-size", flags->segment_size,
                 "A power of two; a message takes a quarter at most (the daemon's: 4MiB)")
      ->type_name("SIZE");
  sub.add_option("--slots", flags->slots, "Segments of a partition in memory (the daemon's: 8)")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  add_retention(sub, *flags);
  sub.add_option("--claim-deadline", flags->claim_deadline,
                 "An unfinished message is taken back after it (the daemon's: 1s)")
      ->type_name("DUR|none");
  sub.add_option("--checksum", flags->checksum, "Of a volatile topic (on)")->type_name("on|off");
  sub.add_option("--time", flags->time, "Of messages (coarse)")->type_name("precise|coarse|none");
  sub.add_option("--publisher", flags->publishers, "Who may publish; may be repeated (whoever may connect)")
      ->type_name("user:NAME|group:NAME")
      ->allow_extra_args(false);
  sub.add_option("--consumer", flags->consumers, "Who may consume; may be repeated (whoever may connect)")
      ->type_name("user:NAME|group:NAME")
      ->allow_extra_args(false);
  sub.add_option("--mirror", flags->mirrors,
                 "A directory on another disk that holds its log files too; may be repeated (none)")
      ->type_name("DIR")
      ->allow_extra_args(false);
  sub.callback([&context, flags] { context.run = [&context, flags] { return create(context, *flags); }; });
}

void add_alter(CLI::App& group, Context& context) {
  CLI::App& sub =
      *group.add_subcommand("alter", "Change what can be changed: more partitions, retention, time to live, overflow");
  const auto flags = std::make_shared<TopicFlags>();
  sub.add_option("NAME", flags->name)->required();
  sub.add_option("--partitions", flags->partitions, "More than now")->type_name("N")->check(CLI::PositiveNumber);
  add_retention(sub, *flags);
  sub.add_option("--mirror", flags->mirrors)->allow_extra_args(false)->group("");  // only to say that it cannot be
  sub.add_flag("--yes", flags->yes, "Yes, keys may go to other partitions");
  sub.callback([&context, flags] { context.run = [&context, flags] { return alter(context, *flags); }; });
}

using Action = int (*)(const Context&, const TopicFlags&);

void add_simple(CLI::App& group, Context& context, const char* verb, const char* help, bool named, bool json,
                Action action) {
  CLI::App& sub = *group.add_subcommand(verb, help);
  const auto flags = std::make_shared<TopicFlags>();
  if (named) sub.add_option("NAME", flags->name)->required();
  if (json) sub.add_flag("--json", flags->json, "Print one JSON document");
  sub.callback(
      [&context, flags, action] { context.run = [&context, flags, action] { return action(context, *flags); }; });
}

}  // namespace

void add_topic_commands(CLI::App& app, Context& context) {
  CLI::App& group = *app.add_subcommand("topic", "Make, see and change topics");
  group.require_subcommand(1);
  group.fallthrough();
  add_create(group, context);
  add_simple(group, context, "list", "All topics", false, true, list);
  add_simple(group, context, "describe", "A topic's settings and the state of its partitions", true, true, describe);
  add_alter(group, context);
  add_simple(group, context, "delete", "Delete a topic and all its messages", true, false, remove);
  add_simple(group, context, "recover",
             "Open poisoned partitions again (NAME or NAME/PARTITION), once the disk is well", true, false, recover);
  add_topic_scrub(group, context);
}

}  // namespace sluice::cli
