#include "shm/base/units.h"

#include <array>
#include <charconv>
#include <limits>
#include <span>
#include <utility>

namespace sluice {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

// Ascending: formatting takes the last that divides.
constexpr std::array<Unit, 7> kDurations = {{{"ns", 1},
                                             {"us", 1'000},
                                             {"ms", 1'000'000},
                                             {"s", 1'000'000'000},
                                             {"m", 60'000'000'000},
                                             {"h", 3'600'000'000'000},
                                             {"d", 86'400'000'000'000}}};
constexpr std::array<Unit, 5> kSizes = {
    {{"B", 1}, {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30}, {"TiB", 1ull << 40}}};

constexpr std::uint64_t kValueMax = std::numeric_limits<std::int64_t>::max();
// What is quoted of a text that cannot be read.
constexpr std::size_t kQuotedMax = 40;

// `bare_factor`: of a number without a unit; 0 if it needs one.
Result<std::uint64_t> parse(std::string_view text, std::span<const Unit> units, std::uint64_t bare_factor,
                            std::string_view expected) {
  const auto refuse = [&](std::string_view why) {
    std::string context = "\"";
    context.append(text.substr(0, kQuotedMax)).append("\" ").append(why).append("; write ").append(expected);
    return fail(ErrorCode::invalid, std::move(context));
  };
  std::uint64_t count = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (code == std::errc::result_out_of_range) return refuse("is too large");
  if (code != std::errc()) return refuse("is no number with a unit");
  const std::string_view name(end, static_cast<std::size_t>(text.data() + text.size() - end));
  std::uint64_t factor = name.empty() ? bare_factor : 0;
  if (name.empty() && count == 0) return std::uint64_t{0};
  for (const Unit& unit : units)
    if (unit.name == name) factor = unit.factor;
  if (factor == 0) return refuse(name.empty() ? "has no unit" : "has an unknown unit");
  if (count > kValueMax / factor) return refuse("is too large");
  return count * factor;
}

std::string format(std::uint64_t value, std::span<const Unit> units) {
  if (value == 0) return "0";
  const Unit* best = &units.front();
  for (const Unit& unit : units)
    if (value % unit.factor == 0) best = &unit;
  return std::to_string(value / best->factor) + std::string(best->name);
}

}  // namespace

Result<std::uint64_t> parse_duration(std::string_view text) {
  return parse(text, kDurations, 0, "a duration like 250ms, 5s, 2m, 1h or 3d");
}

Result<std::uint64_t> parse_size(std::string_view text) {
  return parse(text, kSizes, 1, "a size like 4096, 64KiB, 16MiB or 1GiB");
}

std::string format_duration(std::uint64_t ns) { return format(ns, kDurations); }
std::string format_size(std::uint64_t bytes) { return format(bytes, kSizes); }

}  // namespace sluice
