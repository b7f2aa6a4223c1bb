#include "shm/base/units.h"

#include <random>

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(Units, durations_of_every_unit_are_read_as_ns) {
  EXPECT_EQ(*parse_duration("7ns"), 7u);
  EXPECT_EQ(*parse_duration("7us"), 7'000u);
  EXPECT_EQ(*parse_duration("250ms"), 250'000'000u);
  EXPECT_EQ(*parse_duration("5s"), 5'000'000'000u);
  EXPECT_EQ(*parse_duration("2m"), 120'000'000'000u);
  EXPECT_EQ(*parse_duration("1h"), 3'600'000'000'000u);
  EXPECT_EQ(*parse_duration("3d"), 259'200'000'000'000u);
  EXPECT_EQ(*parse_duration("0"), 0u);
}

TEST(Units, sizes_of_every_unit_are_read_as_bytes) {
  EXPECT_EQ(*parse_size("17"), 17u);
  EXPECT_EQ(*parse_size("17B"), 17u);
  EXPECT_EQ(*parse_size("64KiB"), 65536u);
  EXPECT_EQ(*parse_size("16MiB"), 16u << 20);
  EXPECT_EQ(*parse_size("1GiB"), 1u << 30);
  EXPECT_EQ(*parse_size("2TiB"), 2ull << 40);
}

TEST(Units, what_is_no_duration_is_refused_with_an_example) {
  for (const char* text : {"", "5", "s", "-5s", "+5s", "1.5s", "5 s", "5S", "5sec", " 5s", "5s ", "0x5s", "none"}) {
    const auto parsed = parse_duration(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code(), ErrorCode::invalid);
    EXPECT_NE(parsed.error().context().find("250ms"), std::string::npos);
  }
}

TEST(Units, what_is_no_size_is_refused_and_kB_too_because_it_means_two_things) {
  for (const char* text : {"", "KiB", "-1", "1.5MiB", "1 MiB", "1kB", "1MB", "1K", "1mib", "none"})
    EXPECT_FALSE(parse_size(text)) << text;
}

TEST(Units, values_hold_at_63_bits_and_fail_beyond_instead_of_wrapping) {
  EXPECT_EQ(*parse_size("9223372036854775807"), 9223372036854775807u);
  EXPECT_FALSE(parse_size("9223372036854775808"));
  EXPECT_FALSE(parse_size("18446744073709551616"));
  EXPECT_EQ(*parse_size("8388607TiB"), 8388607ull << 40);
  EXPECT_FALSE(parse_size("8388608TiB"));
  EXPECT_TRUE(parse_duration("106751d"));
  EXPECT_FALSE(parse_duration("106752d"));
}

TEST(Units, formatting_takes_the_largest_unit_that_divides) {
  EXPECT_EQ(format_duration(0), "0");
  EXPECT_EQ(format_duration(1'500'000'000), "1500ms");
  EXPECT_EQ(format_duration(90'000'000'000), "90s");
  EXPECT_EQ(format_duration(120'000'000'000), "2m");
  EXPECT_EQ(format_size(4u << 20), "4MiB");
  EXPECT_EQ(format_size((4u << 20) + 1), "4194305B");
}

TEST(Units, what_was_formatted_is_read_back_as_it_was) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    const std::uint64_t value = random() >> (1 + random() % 63);
    EXPECT_EQ(*parse_duration(format_duration(value)), value);
    EXPECT_EQ(*parse_size(format_size(value)), value);
  }
}

}  // namespace
}  // namespace sluice
