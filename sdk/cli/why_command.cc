// sluice why G [--check]

#include <memory>

#include "sdk/cli/arguments.h"
#include "sdk/cli/command.h"
#include "sdk/cli/group_totals.h"

namespace sluice::cli {
namespace {

struct WhyFlags {
  std::string group, max_age;
  std::optional<std::uint64_t> max_lag;
  bool check = false;
  bool json = false;
};

Result<LagLimits> limits_of(const WhyFlags& flags) {
  LagLimits limits;
  limits.messages = flags.max_lag;
  if (!flags.max_age.empty()) {
    SLUICE_ASSIGN(const std::uint64_t ns, duration_argument(flags.max_age));
    limits.age = Duration(static_cast<Duration::rep>(ns));
  }
  return limits;
}

std::string age_text(Duration age) { return human_duration(static_cast<std::uint64_t>(age.count())); }

std::string over_text(const GroupTotals& totals, const LagLimits& limits) {
  std::string out;
  if (limits.messages && totals.lag_messages > *limits.messages)
    out += "The lag is " + human_count(totals.lag_messages) + " messages, at most " + human_count(*limits.messages) +
           " are wanted.\n";
  if (limits.age && totals.oldest_age > *limits.age)
    out += "The oldest message is " + age_text(totals.oldest_age) + " old, at most " + age_text(*limits.age) +
           " are wanted.\n";
  return out;
}

int why(const Context& context, const WhyFlags& flags) {
  const auto limits = limits_of(flags);
  if (!limits) return report_usage("why", "--max-age: " + limits.error().context());
  return with_client(context, "why", [&](Client& client) -> int {
    const auto reason = client.explain_group(flags.group);
    if (!reason) return report("why", reason.error());
    const auto group = client.group(flags.group);
    if (!group) return report("why", group.error());
    const GroupTotals totals = totals_of(*group);
    const bool ok = reason->well && is_within(totals, *limits);
    if (flags.json) {
      print_json({{"group", flags.group},
                  {"ok", ok},
                  {"well", reason->well},
                  {"cause", reason->cause},
                  {"sentence", reason->sentence},
                  {"advice", reason->advice},
                  {"lag_messages", totals.lag_messages},
                  {"oldest_age_ms", totals.oldest_age.count() / 1'000'000}});
    } else {
      print(printable(reason->sentence) + "\n" +
            (reason->advice.empty() ? "" : "  -> " + printable(reason->advice) + "\n") + over_text(totals, *limits));
    }
    return flags.check && !ok ? kExitCheckFailed : kExitDone;
  });
}

}  // namespace

void add_why_command(CLI::App& app, Context& context) {
  CLI::App& sub = *app.add_subcommand("why", "In one sentence what holds a group back, and what to do");
  const auto flags = std::make_shared<WhyFlags>();
  sub.add_option("G", flags->group)->required();
  CLI::Option* check = sub.add_flag("--check", flags->check, "Exit with 1 if it is not well");
  sub.add_option("--max-lag", flags->max_lag, "With --check: nor if it lags by more messages")
      ->type_name("N")
      ->needs(check);
  sub.add_option("--max-age", flags->max_age, "With --check: nor if a message that is not settled is older")
      ->type_name("DUR")
      ->needs(check);
  sub.add_flag("--json", flags->json, "Print one JSON document");
  sub.callback([&context, flags] { context.run = [&context, flags] { return why(context, *flags); }; });
}

}  // namespace sluice::cli
