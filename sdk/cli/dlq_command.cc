// sluice dlq list | show | redrive | purge

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>

#include "sdk/cli/arguments.h"
#include "sdk/cli/command.h"
#include "sdk/cli/group_text.h"
#include "sdk/cli/message_text.h"

namespace sluice::cli {
namespace {

constexpr std::uint32_t kLimitDefault = 100;
constexpr std::uint32_t kPageSize = 256;
constexpr auto kCopyTimeout = std::chrono::seconds(1);

struct DlqFlags {
  std::string group;
  std::uint32_t limit = kLimitDefault;
  std::uint64_t after = 0;
  std::vector<std::string> filters;
  std::uint32_t rate = 0;
  bool dry_run = false;
  bool json = false;
};

int list(const Context& context, const DlqFlags& flags) {
  const std::string command = "dlq list";
  return with_client(context, command, [&](Client& client) -> int {
    auto counts = client.dead_letter_counts(flags.group);
    if (!counts) return report(command, counts.error());
    // Groups that never had any say nothing, unless one is asked for.
    if (flags.group.empty())
      std::erase_if(*counts, [](const DeadLetterCount& c) { return c.parked + c.redriven + c.purged == 0; });
    if (flags.json) {
      print_json(to_json(*counts));
    } else if (counts->empty()) {
      print("no dead letters\n");
    } else {
      print(letter_counts_text(*counts));
    }
    return kExitDone;
  });
}

// ---- show ----

// Reads the copies that were parked. They stand in partition 0 of the group's own topic.
class Copies {
 public:
  static Result<Copies> open(Client& client, const std::string& group) {
    ReaderOptions options;
    options.from = From::earliest();
    options.partitions = {0};
    const std::string topic = "dlq." + group;
    SLUICE_ASSIGN(Reader reader, client.reader({topic}, std::move(options)));
    return Copies(std::move(reader), topic);
  }

  Result<Message> find(const DeadLetter& letter) {
    SLUICE_TRY(reader_.seek(topic_, 0, letter.parked_at));
    Result<Message> message = reader_.next(kCopyTimeout);
    if (message && message->position() == letter.parked_at) return message;
    if (!message && message.error().code() != ErrorCode::timed_out) return message;
    return fail(ErrorCode::not_found,
                "its copy at " + topic_ + "/0@" + std::to_string(letter.parked_at.value) + " is gone by retention");
  }

 private:
  Copies(Reader reader, std::string topic) : reader_(std::move(reader)), topic_(std::move(topic)) {}
  Reader reader_;
  std::string topic_;
};

// At most `limit`, a page at a time.
Result<std::vector<DeadLetter>> list_letters(Client& client, const DlqFlags& flags) {
  std::vector<DeadLetter> letters;
  std::uint64_t after = flags.after;
  while (letters.size() < flags.limit) {
    const auto wanted = static_cast<std::uint32_t>(std::min<std::size_t>(kPageSize, flags.limit - letters.size()));
    SLUICE_ASSIGN(std::vector<DeadLetter> page, client.dead_letters(flags.group, after, wanted));
    if (page.empty()) break;
    after = page.back().id;
    std::move(page.begin(), page.end(), std::back_inserter(letters));
  }
  return letters;
}

void add_text(Json& out, const std::string& name, std::string_view value) {
  if (is_utf8(value)) {
    out[name] = std::string(value);
  } else {
    out[name + "_base64"] = base64(value);
  }
}

Json letter_json(const DeadLetter& letter, const Result<Message>& copy) {
  Json out = to_json(letter);
  if (!copy) {
    out["payload"] = nullptr;
    out["payload_error"] = copy.error().context();
    return out;
  }
  if (!copy->key().empty()) add_text(out, "key", copy->key());
  if (!copy->tag().empty()) add_text(out, "tag", copy->tag());
  Json headers = Json::object();
  for (const auto& [header, value] : copy->headers()) add_text(headers, std::string(header), value);
  out["headers"] = std::move(headers);
  add_text(out, "payload", copy->text());
  return out;
}

int show(const Context& context, const DlqFlags& flags) {
  const std::string command = "dlq show";
  return with_client(context, command, [&](Client& client) -> int {
    const auto letters = list_letters(client, flags);
    if (!letters) return report(command, letters.error());
    Json list = Json::array();
    std::vector<LetterRow> rows;
    std::optional<Copies> copies;
    for (const DeadLetter& letter : *letters) {
      if (!copies) {
        auto opened = Copies::open(client, flags.group);
        if (!opened) return report(command, opened.error());
        copies = std::move(*opened);
      }
      const Result<Message> copy = copies->find(letter);
      if (!copy && copy.error().code() != ErrorCode::not_found) return report(command, copy.error());
      if (flags.json) list.push_back(letter_json(letter, copy));
      if (!flags.json) rows.push_back({letter, copy ? payload_preview(copy->text()) : copy.error().context()});
    }
    if (flags.json) {
      print_json({{"group", flags.group}, {"letters", std::move(list)}});
    } else if (rows.empty()) {
      print("no dead letters of " + flags.group + "\n");
    } else {
      print(letters_text(rows));
      if (rows.size() == flags.limit)
        print("\nThere may be more: --after " + std::to_string(rows.back().letter.id) + "\n");
    }
    return kExitDone;
  });
}

// ---- redrive, purge ----

int redrive(const Context& context, const DlqFlags& flags) {
  const std::string command = "dlq redrive";
  RedriveOptions options;
  options.rate = flags.rate;
  options.dry_run = flags.dry_run;
  for (const std::string& text : flags.filters) {
    auto filter = filter_argument(text);
    if (!filter) return report_usage(command, "--filter: " + filter.error().context());
    options.filter.push_back(std::move(*filter));
  }
  return with_client(context, command, [&](Client& client) -> int {
    const auto outcomes = [&] {
      const Waiting waiting("redriving the dead letters of " + flags.group);
      return client.redrive(flags.group, options);
    }();
    if (!outcomes) return report(command, outcomes.error());
    const auto good = static_cast<std::size_t>(std::count_if(outcomes->begin(), outcomes->end(), went_well));
    if (flags.json) {
      print_json(to_json(flags.group, *outcomes, flags.dry_run));
    } else {
      std::string out = outcomes->empty() ? "" : outcomes_text(*outcomes) + "\n";
      out += human_count(good) + (flags.dry_run ? " would be redriven" : " redriven");
      if (good != outcomes->size()) out += ", " + human_count(outcomes->size() - good) + " not";
      print(out + "\n");
    }
    return good == outcomes->size() ? kExitDone : kExitIo;
  });
}

int purge(const Context& context, const DlqFlags& flags) {
  const std::string command = "dlq purge";
  return with_client(context, command, [&](Client& client) -> int {
    const auto purged = client.purge_dead_letters(flags.group);
    if (!purged) return report(command, purged.error());
    if (flags.json) {
      print_json({{"group", flags.group}, {"purged", *purged}});
    } else {
      print(human_count(*purged) + " purged\n");
    }
    return kExitDone;
  });
}

// ---- the parser ----

using Action = int (*)(const Context&, const DlqFlags&);

CLI::App& add(CLI::App& group, Context& context, const char* verb, const char* help, Action action,
              const std::shared_ptr<DlqFlags>& flags, bool group_required) {
  CLI::App& sub = *group.add_subcommand(verb, help);
  CLI::Option* name = sub.add_option("G", flags->group, "The group");
  if (group_required) name->required();
  sub.add_flag("--json", flags->json, "Print one JSON document");
  sub.callback(
      [&context, flags, action] { context.run = [&context, flags, action] { return action(context, *flags); }; });
  return sub;
}

}  // namespace

void add_dlq_commands(CLI::App& app, Context& context) {
  CLI::App& group = *app.add_subcommand("dlq", "Dead letters: messages that a group has given up");
  group.require_subcommand(1);
  group.fallthrough();
  add(group, context, "list", "How many each group has", list, std::make_shared<DlqFlags>(), false);
  auto flags = std::make_shared<DlqFlags>();
  CLI::App& shown =
      add(group, context, "show", "A group's dead letters: where from, why, and what was in them", show, flags, true);
  shown.add_option("--limit", flags->limit, "At most so many (" + std::to_string(kLimitDefault) + ")")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  shown.add_option("--after", flags->after, "Those with a higher id alone")->type_name("ID");
  flags = std::make_shared<DlqFlags>();
  CLI::App& driven = add(group, context, "redrive", "Hand them out again, to this group alone", redrive, flags, true);
  driven
      .add_option("--filter", flags->filters,
                  "Those alone where it holds; may be repeated: topic=NAME partition=N position=N id=N reason=PART")
      ->type_name("K=V")
      ->allow_extra_args(false);
  driven.add_option("--rate", flags->rate, "At most so many a second")->type_name("N")->check(CLI::PositiveNumber);
  driven.add_flag("--dry-run", flags->dry_run, "Tell which ones, and do nothing");
  add(group, context, "purge", "Give them up for good", purge, std::make_shared<DlqFlags>(), true);
}

}  // namespace sluice::cli
