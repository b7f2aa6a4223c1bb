#include "sdk/cli/arguments.h"

#include <gtest/gtest.h>

namespace sluice::cli {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kNow = 1'714'564'800 * kSecond;  // 2024-05-01T12:00:00Z

TEST(TimeArgument, rfc3339_is_read_with_fractions_and_zones) {
  EXPECT_EQ(*time_argument("1970-01-01T00:00:00Z", kNow), 0u);
  EXPECT_EQ(*time_argument("2024-05-01T12:00:00Z", kNow), kNow);
  EXPECT_EQ(*time_argument("2024-05-01T12:00:00.5Z", kNow), kNow + kSecond / 2);
  EXPECT_EQ(*time_argument("2024-05-01T12:00:00.000000001Z", kNow), kNow + 1);
  EXPECT_EQ(*time_argument("2024-05-01T14:00:00+02:00", kNow), kNow);
  EXPECT_EQ(*time_argument("2024-05-01t07:30:00-04:30", kNow), kNow);
  EXPECT_EQ(*time_argument("2024-05-01 12:00:00z", kNow), kNow);
  EXPECT_EQ(*time_argument("2024-02-29T00:00:00Z", kNow), 1'709'164'800 * kSecond);
}

TEST(TimeArgument, minus_a_duration_is_before_now_and_never_before_the_epoch) {
  EXPECT_EQ(*time_argument("-10m", kNow), kNow - 600 * kSecond);
  EXPECT_EQ(*time_argument("-3d", 5), 0u);
}

TEST(TimeArgument, what_is_no_time_is_refused) {
  for (const char* text : {"", "now", "2024-05-01", "2024-05-01T12:00Z", "2024-05-01T12:00:00", "2024-02-30T00:00:00Z",
                           "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z", "2024-05-01T24:00:00Z",
                           "2024-05-01T12:00:00.Z", "2024-05-01T12:00:00.1234567890Z", "2024-05-01T12:00:00+0200",
                           "2024-05-01T12:00:00Zx", "10m", "-10", "-", "9999-01-01T00:00:00Z", "1969-12-31T23:59:59Z"})
    EXPECT_FALSE(time_argument(text, kNow)) << text;
}

TEST(FromArgument, every_way_to_name_a_start_is_told_apart) {
  EXPECT_EQ(from_argument("earliest", kNow)->from.kind, From::Kind::earliest);
  EXPECT_EQ(from_argument("latest", kNow)->from.kind, From::Kind::latest);
  const auto bare = from_argument("4096", kNow);
  EXPECT_EQ(bare->from.kind, From::Kind::position);
  EXPECT_EQ(bare->from.at, Position(4096));
  EXPECT_FALSE(bare->partition_given);
  const auto full = from_argument("3@4096", kNow);
  EXPECT_EQ(full->from.partition, 3u);
  EXPECT_EQ(full->from.at, Position(4096));
  EXPECT_TRUE(full->partition_given);
  EXPECT_EQ(from_argument("-10m", kNow)->from.time_ns, kNow - 600 * kSecond);
  EXPECT_EQ(from_argument("2024-05-01T12:00:00Z", kNow)->from.time_ns, kNow);
  for (const char* text : {"", "first", "@5", "3@", "x@5", "3@5@6", "4294967296@0", "-5", "99999999999999999999"})
    EXPECT_FALSE(from_argument(text, kNow)) << text;
}

TEST(AddressArgument, topic_partition_and_position_are_taken_apart) {
  const auto address = address_argument("orders.eu/12@4096");
  ASSERT_TRUE(address);
  EXPECT_EQ(address->topic, "orders.eu");
  EXPECT_EQ(address->partition, 12u);
  EXPECT_EQ(address->position, Position(4096));
  for (const char* text : {"", "orders", "orders/1", "orders@5", "/1@5", "orders/@5", "orders/1@", "orders/1@5 "})
    EXPECT_FALSE(address_argument(text)) << text;
}

TEST(HeaderArgument, the_first_equals_sign_divides) {
  EXPECT_EQ(*header_argument("a=b=c"), std::pair(std::string("a"), std::string("b=c")));
  EXPECT_EQ(*header_argument("a="), std::pair(std::string("a"), std::string()));
  EXPECT_FALSE(header_argument("=b"));
  EXPECT_FALSE(header_argument("ab"));
}

TEST(DelimiterArgument, one_byte_or_an_escape) {
  EXPECT_EQ(*delimiter_argument(":"), ':');
  EXPECT_EQ(*delimiter_argument("\\t"), '\t');
  EXPECT_EQ(*delimiter_argument("\\0"), '\0');
  EXPECT_EQ(*delimiter_argument("\\\\"), '\\');
  for (const char* text : {"", "::", "\\x", "\n"}) EXPECT_FALSE(delimiter_argument(text)) << text;
}

TEST(Arguments, none_is_zero_only_where_it_may_be) {
  EXPECT_EQ(*size_argument("none", true), 0u);
  EXPECT_FALSE(size_argument("none"));
  EXPECT_EQ(*duration_argument("none", true), 0u);
  EXPECT_FALSE(duration_argument("none"));
  EXPECT_EQ(*duration_argument("250ms"), 250'000'000u);
  EXPECT_EQ(*size_argument("64KiB"), 65536u);
}

TEST(Arguments, words_are_read_back_as_they_are_printed) {
  for (const auto value : {Durability::volatile_, Durability::async, Durability::sync})
    EXPECT_EQ(*durability_argument(name(value)), value);
  for (const auto value : {Visibility::committed, Visibility::durable})
    EXPECT_EQ(*visibility_argument(name(value)), value);
  for (const auto value : {Overflow::block, Overflow::drop_oldest}) EXPECT_EQ(*overflow_argument(name(value)), value);
  for (const auto value : {TimeMode::coarse, TimeMode::precise, TimeMode::none})
    EXPECT_EQ(*time_mode_argument(name(value)), value);
  const auto wrong = durability_argument("safe");
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().context().find("volatile, async, sync"), std::string::npos);
}

TEST(Arguments, patterns_are_not_names) {
  EXPECT_TRUE(is_pattern("orders.*"));
  EXPECT_TRUE(is_pattern("a?"));
  EXPECT_TRUE(is_pattern("[ab]"));
  EXPECT_FALSE(is_pattern("orders.eu-1_x"));
}

TEST(Backoff, is_a_list_of_exact_delays_or_an_exponential_range) {
  using namespace std::chrono_literals;
  const Backoff list = backoff_argument("1s,5s,1m").value();
  EXPECT_EQ(list.steps, (std::vector<Duration>{1s, 5s, 60s}));
  EXPECT_EQ(backoff_argument("0").value().steps, std::vector<Duration>{Duration(0)});
  const Backoff range = backoff_argument("exp:100ms..30s").value();
  EXPECT_TRUE(range.steps.empty());
  EXPECT_EQ(range.first, 100ms);
  EXPECT_EQ(range.max, 30s);
  for (const char* text : {"1s,5s,1m", "exp:100ms..30s", "exp:1m..1m", "250ms"})
    EXPECT_EQ(backoff_text(backoff_argument(text).value()), text);
  for (const char* text : {"", "1s,", ",1s", "1s, 5s", "5", "exp:", "exp:5s", "exp:5s..", "exp:..5s", "exp:5s..1s",
                           "exp:0..1s", "exp:1s-5s", "1s..5s"})
    EXPECT_EQ(backoff_argument(text).error().code(), ErrorCode::invalid) << text;
}

TEST(GroupWords, are_those_of_the_contract) {
  EXPECT_EQ(group_mode_argument("ordered").value(), GroupMode::ordered);
  EXPECT_EQ(group_mode_argument("shared").value(), GroupMode::shared);
  EXPECT_FALSE(group_mode_argument("Shared"));
  for (const Strict strict : {Strict::none, Strict::key, Strict::partition})
    EXPECT_EQ(strict_argument(name(strict)).value(), strict);
  EXPECT_FALSE(strict_argument("tag"));
}

TEST(Filter, names_what_a_dead_letter_has) {
  using Pair = std::pair<std::string, std::string>;
  EXPECT_EQ(filter_argument("topic=orders").value(), Pair("topic", "orders"));
  EXPECT_EQ(filter_argument("partition=3").value(), Pair("partition", "3"));
  EXPECT_EQ(filter_argument("position=4096").value(), Pair("position", "4096"));
  EXPECT_EQ(filter_argument("id=7").value(), Pair("id", "7"));
  EXPECT_EQ(filter_argument("reason=a=b").value(), Pair("reason", "a=b"));
  for (const char* text : {"", "topic", "topic=", "colour=red", "=x", "id=seven", "partition=-1", "Topic=orders"})
    EXPECT_EQ(filter_argument(text).error().code(), ErrorCode::invalid) << text;
}

}  // namespace
}  // namespace sluice::cli
