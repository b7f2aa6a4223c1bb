#include "daemon/core/group.h"

#include <algorithm>

namespace sluice::core {
namespace {

constexpr std::string_view kDeadLetterPrefix = "dlq.";
constexpr std::uint64_t kTimeoutNsMin = 10'000'000;
constexpr std::uint64_t kTimeoutNsMax = 30ull * 24 * 3600 * 1'000'000'000;
constexpr std::uint64_t kBackoffNsMax = 365ull * 24 * 3600 * 1'000'000'000;
constexpr std::uint32_t kAttemptsMax = 1'000'000;

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

tl::unexpected<Error> invalid(const std::string& group, const std::string& why) {
  return fail(ErrorCode::invalid, "group \"" + group + "\": " + why);
}

Status check_timeout(const GroupConfig& config, std::uint64_t ns, const char* what) {
  if (ns >= kTimeoutNsMin && ns <= kTimeoutNsMax) return {};
  return invalid(config.name, std::string(what) + " must be between 10 ms and 30 days");
}

Status check_backoff(const GroupConfig& config) {
  const Backoff& backoff = config.backoff;
  if (backoff.steps_ns.size() > kBackoffStepsMax)
    return invalid(config.name, "a backoff list has at most " + std::to_string(kBackoffStepsMax) + " delays");
  const auto too_long = [](std::uint64_t ns) { return ns > kBackoffNsMax; };
  if (std::any_of(backoff.steps_ns.begin(), backoff.steps_ns.end(), too_long) || too_long(backoff.max_ns))
    return invalid(config.name, "a backoff delay is at most 365 days");
  if (backoff.steps_ns.empty() && (backoff.first_ns == 0 || backoff.first_ns > backoff.max_ns))
    return invalid(config.name, "an exponential backoff begins above 0 and not above its maximum");
  return {};
}

}  // namespace

std::uint64_t Backoff::delay_ns(std::uint32_t failed, std::uint64_t dice) const {
  const std::uint32_t step = failed == 0 ? 0 : failed - 1;
  if (!steps_ns.empty()) return steps_ns[std::min<std::size_t>(step, steps_ns.size() - 1)];
  std::uint64_t delay = first_ns;
  for (std::uint32_t i = 0; i < step && delay < max_ns; ++i) delay = delay > max_ns / 2 ? max_ns : delay * 2;
  return delay - dice % (delay / 2 + 1);
}

Status check(const GroupConfig& config) {
  if (config.name.empty() || config.name.size() > kGroupNameSizeMax || config.name.front() == '.' ||
      !std::all_of(config.name.begin(), config.name.end(), is_name_character))
    return invalid(config.name, "a group's name has 1 to " + std::to_string(kGroupNameSizeMax) +
                                    " characters of A-Z a-z 0-9 . _ - and does not begin with a dot");
  SLUICE_TRY(check_timeout(config, config.ack_timeout_ns, "ack_timeout"));
  SLUICE_TRY(check_timeout(config, config.member_timeout_ns, "member_timeout"));
  if (config.max_attempts == 0 || config.max_attempts > kAttemptsMax)
    return invalid(config.name, "max_attempts must be between 1 and " + std::to_string(kAttemptsMax));
  SLUICE_TRY(check_backoff(config));
  if (config.mode == GroupMode::shared && config.strict != Strict::none)
    return invalid(config.name, "strict order is for ordered groups alone");
  return {};
}

Result<GroupConfig> apply(const GroupConfig& config, const GroupChange& change) {
  GroupConfig changed = config;
  if (change.ack_timeout_ns) changed.ack_timeout_ns = *change.ack_timeout_ns;
  if (change.member_timeout_ns) changed.member_timeout_ns = *change.member_timeout_ns;
  if (change.max_attempts) changed.max_attempts = *change.max_attempts;
  if (change.backoff) changed.backoff = *change.backoff;
  if (change.strict) changed.strict = *change.strict;
  if (change.hold) changed.hold = *change.hold;
  SLUICE_TRY(check(changed));
  return changed;
}

bool is_pattern(std::string_view text) { return text.find('*') != std::string_view::npos; }

// Greedy with one point to come back to: linear for each star.
bool matches(std::string_view pattern, std::string_view topic) {
  if (!is_pattern(pattern)) return pattern == topic;
  if (topic.substr(0, kDeadLetterPrefix.size()) == kDeadLetterPrefix) return false;
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;
  std::size_t after = 0;
  while (t < topic.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      after = t;
    } else if (p < pattern.size() && pattern[p] == topic[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++after;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

Status check_pattern(std::string_view pattern) {
  const bool right =
      !pattern.empty() && pattern.size() <= kTopicNameSizeMax &&
      std::all_of(pattern.begin(), pattern.end(), [](char c) { return c == '*' || is_name_character(c); });
  if (right) return {};
  return fail(ErrorCode::invalid, "\"" + std::string(pattern) + "\" is neither a topic's name nor a pattern of one");
}

std::string dead_letter_topic(std::string_view group) { return std::string(kDeadLetterPrefix) + std::string(group); }

std::string_view dead_letter_group(std::string_view topic) {
  if (topic.substr(0, kDeadLetterPrefix.size()) != kDeadLetterPrefix) return {};
  return topic.substr(kDeadLetterPrefix.size());
}

}  // namespace sluice::core
