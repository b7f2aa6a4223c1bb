#include "daemon/main/config_resolvers.h"

#include <sstream>
#include <utility>

#include "shm/base/units.h"

namespace sluice::daemon {
namespace {

tl::unexpected<Error> refuse(const std::string& why) { return fail(ErrorCode::invalid, why); }

Result<std::vector<std::string>> read_command(const toml::node& value) {
  const auto wrong = [] { return refuse("command must be a list of texts: [\"/usr/libexec/shop-resolver\", \"-v\"]"); };
  const toml::array* const array = value.as_array();
  if (array == nullptr) return wrong();
  std::vector<std::string> command;
  for (const toml::node& word : *array) {
    const auto text = word.value_exact<std::string>();
    if (!text) return wrong();
    command.push_back(*text);
  }
  return command;
}

Status read_field(std::string_view name, const toml::node& value, core::ResolverConfig& resolver) {
  if (name == "command") {
    SLUICE_ASSIGN(resolver.command, read_command(value));
    return {};
  }
  if (name != "group" && name != "timeout")
    return refuse("unknown key \"" + std::string(name) + "\"; it has group, command and timeout");
  const auto text = value.value_exact<std::string>();
  if (!text) return refuse(std::string(name) + " must be a text in quotes");
  if (name == "group") {
    resolver.group = *text;
    return {};
  }
  const auto timeout = parse_duration(*text);
  if (!timeout) return refuse("timeout " + timeout.error().context());
  resolver.timeout_ns = *timeout;
  return {};
}

Result<core::ResolverConfig> read_resolver(const toml::table& table) {
  core::ResolverConfig resolver;
  for (const auto& [name, value] : table) SLUICE_TRY(read_field(name.str(), value, resolver));
  SLUICE_TRY(core::check(resolver));
  return resolver;
}

std::string text_to_toml(const std::string& text) {
  std::ostringstream out;
  const toml::value<std::string> value(text);
  out << toml::toml_formatter(value, toml::format_flags::none);
  return out.str();
}

}  // namespace

Result<std::vector<core::ResolverConfig>> read_resolvers(const toml::node& value) {
  const toml::array* const array = value.as_array();
  if (array == nullptr) return refuse("is a list of tables: write [[transactions.resolver]], with both brackets");
  std::vector<core::ResolverConfig> resolvers;
  for (const toml::node& entry : *array) {
    const std::string line = "of line " + std::to_string(entry.source().begin.line) + ": ";
    if (!entry.is_table()) return refuse(line + "must be a table with group and command");
    auto resolver = read_resolver(*entry.as_table());
    if (!resolver) return refuse(line + resolver.error().context());
    resolvers.push_back(std::move(*resolver));
  }
  SLUICE_TRY(core::check(resolvers));
  return resolvers;
}

std::string resolvers_to_toml(const std::vector<core::ResolverConfig>& resolvers) {
  std::string out;
  for (const core::ResolverConfig& resolver : resolvers) {
    std::string command;
    for (const std::string& word : resolver.command) command += (command.empty() ? "" : ", ") + text_to_toml(word);
    out += (out.empty() ? "" : ", ") + ("{group = " + text_to_toml(resolver.group)) + ", command = [" + command +
           "], timeout = " + text_to_toml(format_duration(resolver.timeout_ns)) + "}";
  }
  return "[" + out + "]";
}

}  // namespace sluice::daemon
