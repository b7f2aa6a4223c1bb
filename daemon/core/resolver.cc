#include "daemon/core/resolver.h"

#include <set>
#include <string_view>

#include "shm/base/limits.h"
#include "shm/base/units.h"

namespace sluice::core {
namespace {

// It would end the text where the system reads it.
bool has_nul(std::string_view text) { return text.find('\0') != text.npos; }

tl::unexpected<Error> invalid(const ResolverConfig& resolver, const std::string& why) {
  return fail(ErrorCode::invalid, "group \"" + resolver.group + "\": " + why);
}

}  // namespace

Status check(const ResolverConfig& resolver) {
  if (resolver.group.empty() || resolver.group.size() > kGroupNameSizeMax || has_nul(resolver.group))
    return fail(ErrorCode::invalid, "group must be the name of a producer group, of 1 to " +
                                        std::to_string(kGroupNameSizeMax) + " bytes, none of them zero");
  if (resolver.command.empty() || !resolver.command.front().starts_with('/'))
    return invalid(resolver, "command must begin with the absolute path of a program: no shell looks for it");
  if (resolver.command.size() > kResolverWordsMax)
    return invalid(resolver, "command has " + std::to_string(resolver.command.size()) + " words; at most " +
                                 std::to_string(kResolverWordsMax) + " are possible");
  for (const std::string& word : resolver.command)
    if (word.size() > kResolverWordSizeMax || has_nul(word))
      return invalid(resolver, "each word of command must have at most " + std::to_string(kResolverWordSizeMax) +
                                   " bytes, none of them zero");
  if (resolver.timeout_ns < kResolverTimeoutNsMin || resolver.timeout_ns > kResolverTimeoutNsMax)
    return invalid(resolver, "timeout must be from " + format_duration(kResolverTimeoutNsMin) + " to " +
                                 format_duration(kResolverTimeoutNsMax));
  return {};
}

Status check(const std::vector<ResolverConfig>& resolvers) {
  if (resolvers.size() > kResolversMax)
    return fail(ErrorCode::invalid, "has " + std::to_string(resolvers.size()) + " entries; at most " +
                                        std::to_string(kResolversMax) + " are possible");
  std::set<std::string_view> groups;
  for (const ResolverConfig& resolver : resolvers) {
    SLUICE_TRY(check(resolver));
    if (!groups.insert(resolver.group).second) return invalid(resolver, "it has one already");
  }
  return {};
}

}  // namespace sluice::core
