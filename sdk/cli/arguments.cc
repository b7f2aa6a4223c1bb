#include "sdk/cli/arguments.h"

#include <array>
#include <charconv>
#include <chrono>
#include <span>
#include <utility>

#include "shm/base/units.h"

namespace sluice::cli {
namespace {

constexpr std::size_t kQuotedMax = 80;

tl::unexpected<Error> refuse(std::string_view text, std::string_view expected) {
  std::string context = "\"";
  context.append(text.substr(0, kQuotedMax)).append("\" is not ").append(expected);
  return fail(ErrorCode::invalid, std::move(context));
}

// A whole number that is all of the text.
std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// PARTITION@POSITION
std::optional<std::pair<PartitionNumber, Position>> place(std::string_view text) {
  const auto at = text.find('@');
  if (at == text.npos) return std::nullopt;
  const auto partition = number(text.substr(0, at));
  const auto position = number(text.substr(at + 1));
  if (!partition || *partition > UINT32_MAX || !position) return std::nullopt;
  return std::pair(static_cast<PartitionNumber>(*partition), Position(*position));
}

// Takes `count` digits off the front, as a number in [min, max].
std::optional<int> digits(std::string_view& text, std::size_t count, int min, int max) {
  if (text.size() < count) return std::nullopt;
  int value = 0;
  for (const char c : text.substr(0, count)) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  if (value < min || value > max) return std::nullopt;
  text.remove_prefix(count);
  return value;
}

bool take(std::string_view& text, std::string_view any_of) {
  if (text.empty() || any_of.find(text.front()) == any_of.npos) return false;
  text.remove_prefix(1);
  return true;
}

// ".123456789": up to nine digits, as ns.
std::optional<std::uint64_t> fraction(std::string_view& text) {
  if (!take(text, ".,")) return 0;
  std::uint64_t ns = 0;
  std::size_t count = 0;
  while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
    if (++count > 9) return std::nullopt;
    ns = ns * 10 + static_cast<std::uint64_t>(text.front() - '0');
    text.remove_prefix(1);
  }
  if (count == 0) return std::nullopt;
  for (; count < 9; ++count) ns *= 10;
  return ns;
}

// "Z" or "+02:00", as seconds east of Greenwich.
std::optional<int> zone(std::string_view& text) {
  if (take(text, "Zz")) return 0;
  if (text.empty() || (text.front() != '+' && text.front() != '-')) return std::nullopt;
  const int sign = text.front() == '-' ? -1 : 1;
  text.remove_prefix(1);
  const auto hours = digits(text, 2, 0, 23);
  if (!hours || !take(text, ":")) return std::nullopt;
  const auto minutes = digits(text, 2, 0, 59);
  if (!minutes) return std::nullopt;
  return sign * (*hours * 3600 + *minutes * 60);
}

std::optional<std::uint64_t> rfc3339(std::string_view text) {
  const auto year = digits(text, 4, 1970, 2262);
  if (!year || !take(text, "-")) return std::nullopt;
  const auto month = digits(text, 2, 1, 12);
  if (!month || !take(text, "-")) return std::nullopt;
  const auto day = digits(text, 2, 1, 31);
  if (!day || !take(text, "Tt ")) return std::nullopt;
  const auto hour = digits(text, 2, 0, 23);
  if (!hour || !take(text, ":")) return std::nullopt;
  const auto minute = digits(text, 2, 0, 59);
  if (!minute || !take(text, ":")) return std::nullopt;
  const auto second = digits(text, 2, 0, 60);  // 60: a leap second
  if (!second) return std::nullopt;
  const auto ns = fraction(text);
  const auto east = ns ? zone(text) : std::nullopt;
  if (!east || !text.empty()) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(*year), std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  const std::int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  const std::int64_t seconds = days * 86400 + *hour * 3600 + *minute * 60 + *second - *east;
  constexpr std::int64_t kSecondsMax = 9'223'372'036;  // 63 bits of ns
  if (seconds < 0 || seconds >= kSecondsMax) return std::nullopt;
  return static_cast<std::uint64_t>(seconds) * 1'000'000'000 + *ns;
}

template <typename Enum>
struct Word {
  std::string_view name;
  Enum value;
};

template <typename Enum, std::size_t N>
Result<Enum> word_argument(std::string_view text, const std::array<Word<Enum>, N>& words) {
  std::string expected;
  for (const auto& word : words) {
    if (word.name == text) return word.value;
    expected += (expected.empty() ? "one of " : ", ") + std::string(word.name);
  }
  return refuse(text, expected);
}

template <typename Enum, std::size_t N>
std::string_view name_in(Enum value, const std::array<Word<Enum>, N>& words) {
  for (const auto& word : words)
    if (word.value == value) return word.name;
  return "unknown";
}

constexpr std::array<Word<Durability>, 3> kDurabilities = {
    {{"volatile", Durability::volatile_}, {"async", Durability::async}, {"sync", Durability::sync}}};
constexpr std::array<Word<Visibility>, 2> kVisibilities = {
    {{"committed", Visibility::committed}, {"durable", Visibility::durable}}};
constexpr std::array<Word<Overflow>, 2> kOverflows = {
    {{"block", Overflow::block}, {"drop-oldest", Overflow::drop_oldest}}};
constexpr std::array<Word<TimeMode>, 3> kTimeModes = {
    {{"precise", TimeMode::precise}, {"coarse", TimeMode::coarse}, {"none", TimeMode::none}}};
constexpr std::array<Word<PartitionState>, 5> kStates = {{{"open", PartitionState::open},
                                                          {"poisoned", PartitionState::poisoned},
                                                          {"deleted", PartitionState::deleted},
                                                          {"denied", PartitionState::denied},
                                                          {"closing", PartitionState::closing}}};

constexpr std::array<Word<GroupMode>, 2> kGroupModes = {
    {{"ordered", GroupMode::ordered}, {"shared", GroupMode::shared}}};
constexpr std::array<Word<Strict>, 3> kStricts = {
    {{"none", Strict::none}, {"key", Strict::key}, {"partition", Strict::partition}}};

Duration as_duration(std::uint64_t ns) { return Duration(static_cast<Duration::rep>(ns)); }
std::string text_of(Duration duration) { return format_duration(static_cast<std::uint64_t>(duration.count())); }

constexpr std::string_view kExponential = "exp:";
constexpr std::string_view kBackoffForm = "a backoff; write a list like 1s,5s,1m or exp:100ms..30s";

}  // namespace

Result<std::uint64_t> duration_argument(std::string_view text, bool none_allowed) {
  if (none_allowed && text == "none") return std::uint64_t{0};
  return parse_duration(text);
}

Result<std::uint64_t> size_argument(std::string_view text, bool none_allowed) {
  if (none_allowed && text == "none") return std::uint64_t{0};
  return parse_size(text);
}

Result<std::uint64_t> time_argument(std::string_view text, std::uint64_t now_ns) {
  if (text.starts_with('-')) {
    SLUICE_ASSIGN(const std::uint64_t ago, parse_duration(text.substr(1)));
    return now_ns > ago ? now_ns - ago : 0;
  }
  if (const auto time = rfc3339(text)) return *time;
  return refuse(text, "a time like 2024-05-01T12:00:00Z or -10m");
}

Result<FromArgument> from_argument(std::string_view text, std::uint64_t now_ns) {
  if (text == "earliest") return FromArgument{From::earliest()};
  if (text == "latest") return FromArgument{From::latest()};
  if (const auto position = number(text)) return FromArgument{From::position(0, Position(*position)), false};
  if (const auto found = place(text)) return FromArgument{From::position(found->first, found->second)};
  if (const auto time = time_argument(text, now_ns)) return FromArgument{From::time(*time)};
  return refuse(text, "earliest, latest, POSITION, PARTITION@POSITION, or a time like 2024-05-01T12:00:00Z or -10m");
}

Result<AddressArgument> address_argument(std::string_view text) {
  const auto slash = text.rfind('/');
  if (slash != text.npos && slash > 0)
    if (const auto found = place(text.substr(slash + 1)))
      return AddressArgument{std::string(text.substr(0, slash)), found->first, found->second};
  return refuse(text, "a message's address; write TOPIC/PARTITION@POSITION, like orders/0@4096");
}

Result<std::pair<std::string, std::string>> header_argument(std::string_view text) {
  const auto equals = text.find('=');
  if (equals == text.npos || equals == 0) return refuse(text, "a header; write NAME=VALUE");
  return std::pair(std::string(text.substr(0, equals)), std::string(text.substr(equals + 1)));
}

Result<std::pair<std::string, std::string>> filter_argument(std::string_view text) {
  constexpr std::string_view kForm = "a filter; write topic=NAME, partition=N, position=N, id=N or reason=TEXT";
  const auto equals = text.find('=');
  if (equals == text.npos) return refuse(text, kForm);
  const std::string_view key = text.substr(0, equals);
  const std::string_view value = text.substr(equals + 1);
  const bool wants_number = key == "partition" || key == "position" || key == "id";
  if (value.empty() || (!wants_number && key != "topic" && key != "reason")) return refuse(text, kForm);
  if (wants_number && !number(value)) return refuse(text, kForm);
  return std::pair(std::string(key), std::string(value));
}

Result<char> delimiter_argument(std::string_view text) {
  if (text == "\\t") return '\t';
  if (text == "\\0") return '\0';
  if (text == "\\\\") return '\\';
  if (text.size() == 1 && text != "\n") return text.front();
  return refuse(text, "a delimiter; write one byte, or \\t, \\0 or \\\\");
}

bool is_pattern(std::string_view text) { return text.find_first_of("*?[") != text.npos; }

Result<Durability> durability_argument(std::string_view text) { return word_argument(text, kDurabilities); }
Result<Visibility> visibility_argument(std::string_view text) { return word_argument(text, kVisibilities); }
Result<Overflow> overflow_argument(std::string_view text) { return word_argument(text, kOverflows); }
Result<TimeMode> time_mode_argument(std::string_view text) { return word_argument(text, kTimeModes); }
Result<GroupMode> group_mode_argument(std::string_view text) { return word_argument(text, kGroupModes); }
Result<Strict> strict_argument(std::string_view text) { return word_argument(text, kStricts); }

Result<Backoff> backoff_argument(std::string_view text) {
  Backoff backoff;
  if (text.starts_with(kExponential)) {
    const std::string_view range = text.substr(kExponential.size());
    const auto dots = range.find("..");
    if (dots == range.npos) return refuse(text, kBackoffForm);
    const auto first = parse_duration(range.substr(0, dots));
    const auto max = parse_duration(range.substr(dots + 2));
    if (!first || !max) return refuse(text, kBackoffForm);
    if (*first == 0 || *first > *max) return refuse(text, "a backoff that begins above 0 and not above its maximum");
    backoff.first = as_duration(*first);
    backoff.max = as_duration(*max);
    return backoff;
  }
  for (std::string_view rest = text;;) {
    const auto comma = rest.find(',');
    const auto step = parse_duration(rest.substr(0, comma));
    if (!step) return refuse(text, kBackoffForm);
    backoff.steps.push_back(as_duration(*step));
    if (comma == rest.npos) return backoff;
    rest.remove_prefix(comma + 1);
  }
}

std::string backoff_text(const Backoff& backoff) {
  if (backoff.steps.empty()) return std::string(kExponential) + text_of(backoff.first) + ".." + text_of(backoff.max);
  std::string out;
  for (const Duration step : backoff.steps) out += (out.empty() ? "" : ",") + text_of(step);
  return out;
}

std::string_view name(GroupMode mode) { return name_in(mode, kGroupModes); }
std::string_view name(Strict strict) { return name_in(strict, kStricts); }
std::string_view name(Durability durability) { return name_in(durability, kDurabilities); }
std::string_view name(Visibility visibility) { return name_in(visibility, kVisibilities); }
std::string_view name(Overflow overflow) { return name_in(overflow, kOverflows); }
std::string_view name(TimeMode mode) { return name_in(mode, kTimeModes); }
std::string_view name(PartitionState state) { return name_in(state, kStates); }

}  // namespace sluice::cli
