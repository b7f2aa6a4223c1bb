// What people type, as values: durations, sizes, times, places in a log, headers. Each refuses with `invalid`, quoting
// the text and showing how it is written. Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "shm/base/result.h"
#include "sluice/admin.h"
#include "sluice/group.h"
#include "sluice/reader.h"

namespace sluice::cli {

// "250ms"; ns. "none" is 0 where `none_allowed`.
Result<std::uint64_t> duration_argument(std::string_view text, bool none_allowed = false);
// "64KiB"; bytes. "none" is 0 where `none_allowed`.
Result<std::uint64_t> size_argument(std::string_view text, bool none_allowed = false);

// RFC 3339 ("2024-05-01T12:00:00.5Z", "2024-05-01 12:00:00+02:00") or "-10m" (before `now_ns`); ns since the epoch.
Result<std::uint64_t> time_argument(std::string_view text, std::uint64_t now_ns);

// --from: earliest, latest, POSITION, PARTITION@POSITION or a time.
struct FromArgument {
  From from;
  bool partition_given = true;  // false: a POSITION alone, which is clear for one partition only
};
Result<FromArgument> from_argument(std::string_view text, std::uint64_t now_ns);

// TOPIC/PARTITION@POSITION
struct AddressArgument {
  std::string topic;
  PartitionNumber partition = 0;
  Position position;
};
Result<AddressArgument> address_argument(std::string_view text);

// NAME=VALUE; the name is not empty, the value may be.
Result<std::pair<std::string, std::string>> header_argument(std::string_view text);
// Of dlq redrive: topic=NAME, partition=N, position=N, id=N or reason=TEXT.
Result<std::pair<std::string, std::string>> filter_argument(std::string_view text);
// One byte, or \t \0 \\ for those that are hard to type.
Result<char> delimiter_argument(std::string_view text);

// True if the text is a pattern (* ? [...]) and not a topic's name.
bool is_pattern(std::string_view text);

// The words of the command line for the SDK's enumerations.
Result<Durability> durability_argument(std::string_view text);
Result<Visibility> visibility_argument(std::string_view text);
Result<Overflow> overflow_argument(std::string_view text);
Result<TimeMode> time_mode_argument(std::string_view text);
Result<GroupMode> group_mode_argument(std::string_view text);
Result<Strict> strict_argument(std::string_view text);
// "1s,5s,1m" (exactly these, the last one for all later ones) or "exp:100ms..30s" (doubling).
Result<Backoff> backoff_argument(std::string_view text);
// As backoff_argument() reads it.
std::string backoff_text(const Backoff& backoff);
std::string_view name(GroupMode mode);
std::string_view name(Strict strict);
std::string_view name(Durability durability);
std::string_view name(Visibility visibility);
std::string_view name(Overflow overflow);
std::string_view name(TimeMode mode);
std::string_view name(PartitionState state);

}  // namespace sluice::cli
