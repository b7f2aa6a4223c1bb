// sluice txn list | show | commit | rollback | recheck

#include <charconv>
#include <map>
#include <memory>
#include <optional>

#include "sdk/cli/command.h"
#include "sdk/cli/consume.h"
#include "sdk/cli/message_text.h"
#include "sluice/transaction.h"

namespace sluice::cli {
namespace {

constexpr std::uint32_t kPageSize = 1000;
constexpr std::size_t kPayloadShownMax = 200;  // bytes, in a line of text

struct TxnFlags {
  std::string id;
  std::string state;
  bool json = false;
  bool messages = false;
};

// "17-3": the producer's id, and the transaction's number there.
std::optional<TransactionId> parse_id(std::string_view text) {
  std::uint32_t parts[2] = {0, 0};
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  for (std::uint32_t& part : parts) {
    const auto [next, error] = std::from_chars(at, end, part);
    if (error != std::errc() || part == 0) return std::nullopt;
    at = next;
    if (&part == parts && (at == end || *at++ != '-')) return std::nullopt;
  }
  if (at != end) return std::nullopt;
  return TransactionId::make(ProducerId(parts[0]), parts[1]);
}

std::string address(const HalfInfo& half) {
  return half.topic + "/" + std::to_string(half.partition) + "@" + std::to_string(half.position.value);
}

Json json_of(const TransactionInfo& t) {
  Json halves = Json::array();
  for (const HalfInfo& half : t.halves)
    halves.push_back({{"topic", half.topic},
                      {"partition", half.partition},
                      {"position", half.position.value},
                      {"address", address(half)}});
  return {{"id", to_text(t.id)},
          {"state", t.state},
          {"group", t.group},
          {"check_back", t.check_back},
          {"created_ns", t.created_ns},
          {"next_check_in_ms", static_cast<double>(t.next_check_in.count()) / 1e6},
          {"unknown_answers", t.unknowns},
          {"decided_ns", t.decided_ns},
          {"decided_by", t.decided_by},
          {"halves", std::move(halves)}};
}

std::string time_text(std::uint64_t ns) { return ns == 0 ? "-" : rfc3339(ns); }

Result<std::vector<TransactionInfo>> list_all(Client& client, bool parked_only) {
  std::vector<TransactionInfo> all;
  for (TransactionId after;;) {
    SLUICE_ASSIGN(std::vector<TransactionInfo> page, client.transactions(after, kPageSize, parked_only));
    if (page.empty()) return all;
    after = page.back().id;
    std::move(page.begin(), page.end(), std::back_inserter(all));
  }
}

int list(const Context& context, const TxnFlags& flags) {
  const std::string command = "txn list";
  return with_client(context, command, [&](Client& client) -> int {
    auto all = list_all(client, flags.state == "parked");
    if (!all) return report(command, all.error());
    if (flags.state == "open") std::erase_if(*all, [](const TransactionInfo& t) { return t.state == "parked"; });
    if (flags.json) {
      Json transactions = Json::array();
      for (const TransactionInfo& t : *all) transactions.push_back(json_of(t));
      print_json({{"transactions", std::move(transactions)}});
    } else if (all->empty()) {
      print("no undecided transactions\n");
    } else {
      Table table({"ID", "GROUP", "STATE", "SINCE", "UNKNOWN", "MESSAGES", "FIRST"},
                  {false, false, false, false, true, true, false});
      for (const TransactionInfo& t : *all)
        table.add({to_text(t.id), printable(t.group), t.state, time_text(t.created_ns), std::to_string(t.unknowns),
                   std::to_string(t.halves.size()), t.halves.empty() ? "-" : address(t.halves.front())});
      print(table.text());
    }
    return kExitDone;
  });
}

// What can be read of its messages: those of whom this client may see.
Json messages_of(Client& client, const TransactionInfo& t) {
  Json messages = Json::array();
  client.read_transaction(t, [&](const Message& message) {
    MessageFields fields;
    read_fields(message, fields);
    std::string json;
    append_json(json, fields);
    messages.push_back(Json::parse(json));
    return true;
  });
  return messages;
}

// By address, a line each.
std::map<std::string, std::string> message_lines(Client& client, const TransactionInfo& t) {
  std::map<std::string, std::string> lines;
  client.read_transaction(t, [&](const Message& message) {
    const std::string_view payload = message.text();
    std::string& line = lines[message.address().to_string()];
    if (!message.key().empty()) line += " key=" + printable(message.key());
    line += " " + std::to_string(payload.size()) + " bytes: " + printable(payload.substr(0, kPayloadShownMax));
    if (payload.size() > kPayloadShownMax) line += "...";
    return true;
  });
  return lines;
}

void print_one(Client& client, const TransactionInfo& t, const TxnFlags& flags) {
  if (flags.json) {
    Json json = json_of(t);
    if (flags.messages) json["messages"] = messages_of(client, t);
    print_json(json);
    return;
  }
  std::string out = "transaction " + to_text(t.id) + ": " + t.state + "\n";
  if (!t.group.empty()) out += "  group           " + printable(t.group) + "\n";
  if (t.created_ns != 0) out += "  since           " + rfc3339(t.created_ns) + "\n";
  if (t.decided_ns != 0) out += "  decided         " + rfc3339(t.decided_ns) + " by " + printable(t.decided_by) + "\n";
  if (t.decided_ns == 0) {
    out += "  unknown answers " + std::to_string(t.unknowns) + "\n";
    if (t.next_check_in.count() > 0)
      out += std::string(t.check_back ? "  next check in   " : "  rolled back in  ") +
             human_duration(static_cast<std::uint64_t>(t.next_check_in.count())) + "\n";
  }
  const auto lines = flags.messages ? message_lines(client, t) : std::map<std::string, std::string>();
  for (const HalfInfo& half : t.halves) {
    const auto line = lines.find(address(half));
    out += "  message         " + address(half);
    if (flags.messages) out += line == lines.end() ? " cannot be read" : line->second;
    out += "\n";
  }
  print(out);
}

// Asks for one transaction by `call`, and prints what comes.
template <typename Call>
int on_one(const Context& context, const TxnFlags& flags, const std::string& command, Call call) {
  const auto id = parse_id(flags.id);
  if (!id)
    return report_usage(command, "\"" + flags.id + "\" is no transaction's id; it looks like 17-3 (sluice txn list)");
  return with_client(context, command, [&](Client& client) -> int {
    const Result<TransactionInfo> info = call(client, *id);
    if (!info) return report(command, info.error());
    print_one(client, *info, flags);
    return kExitDone;
  });
}

int show(const Context& context, const TxnFlags& flags) {
  return on_one(context, flags, "txn show", [](Client& client, TransactionId id) { return client.transaction(id); });
}

// The first answer stands: who asks for the other one is told.
int decide(const Context& context, const TxnFlags& flags, bool commit) {
  const std::string command = commit ? "txn commit" : "txn rollback";
  return on_one(context, flags, command, [&](Client& client, TransactionId id) -> Result<TransactionInfo> {
    SLUICE_ASSIGN(TransactionInfo info,
                  client.order_transaction(id, commit ? TransactionOrder::commit : TransactionOrder::rollback));
    if ((info.state == "committed") == commit) return info;
    return fail(ErrorCode::conflict, "transaction " + to_text(id) + " is " + info.state + " already, by " +
                                         info.decided_by + "; the first answer stands");
  });
}
int commit(const Context& context, const TxnFlags& flags) { return decide(context, flags, true); }
int rollback(const Context& context, const TxnFlags& flags) { return decide(context, flags, false); }

int recheck(const Context& context, const TxnFlags& flags) {
  return on_one(context, flags, "txn recheck", [](Client& client, TransactionId id) {
    return client.order_transaction(id, TransactionOrder::recheck);
  });
}

using Action = int (*)(const Context&, const TxnFlags&);

CLI::App& add(CLI::App& group, Context& context, const char* verb, const char* help, Action action,
              const std::shared_ptr<TxnFlags>& flags) {
  CLI::App& sub = *group.add_subcommand(verb, help);
  sub.add_flag("--json", flags->json, "Print one JSON document");
  sub.callback(
      [&context, flags, action] { context.run = [&context, flags, action] { return action(context, *flags); }; });
  return sub;
}

CLI::App& add_one(CLI::App& group, Context& context, const char* verb, const char* help, Action action,
                  const std::shared_ptr<TxnFlags>& flags = std::make_shared<TxnFlags>()) {
  CLI::App& sub = add(group, context, verb, help, action, flags);
  sub.add_option("ID", flags->id, "As list shows it: 17-3")->required();
  return sub;
}

}  // namespace

void add_txn_commands(CLI::App& app, Context& context) {
  CLI::App& group = *app.add_subcommand("txn", "Transactions that are not decided");
  group.require_subcommand(1);
  group.fallthrough();
  const auto flags = std::make_shared<TxnFlags>();
  add(group, context, "list", "Those that are open, and those that wait for an operator", list, flags)
      .add_option("--state", flags->state, "open or parked alone")
      ->check(CLI::IsMember({"open", "parked"}));
  const auto shown = std::make_shared<TxnFlags>();
  add_one(group, context, "show", "One of them, or what was decided in the last week", show, shown)
      .add_flag("--messages", shown->messages, "What its messages say, which no reader is shown before the decision");
  add_one(group, context, "commit", "Decide it by hand: its messages are delivered", commit);
  add_one(group, context, "rollback", "Decide it by hand: its messages are never delivered", rollback);
  add_one(group, context, "recheck", "Ask its producers again, a parked one too", recheck);
}

}  // namespace sluice::cli
