#include "daemon/keep/kept_table.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "shm/layout/regions.h"
#include "shm/region/memfd.h"

namespace sluice::keep {
namespace {

constexpr std::uint64_t kHalf = 64 * 1024;

KeptTable adopt(const KeptTable& table) {
  return KeptTable::adopt(region::duplicate(table.fd(), "the table").value()).value();
}

TEST(KeptTable, TheNextOneFindsWhatWasPut) {
  KeptTable table = KeptTable::create(Incarnation(7), kHalf).value();
  EXPECT_TRUE(table.put({1, 2}, "two"));
  EXPECT_TRUE(table.put({1, 3}, std::string("\0x", 2)));
  EXPECT_TRUE(table.put({1, 2}, "changed"));
  table.erase({1, 9});
  EXPECT_TRUE(table.put({2, 2}, ""));
  table.erase({1, 3});
  const KeptTable next = adopt(table);
  EXPECT_EQ(next.entries(), (KeptTable::Entries{{{1, 2}, "changed"}, {{2, 2}, ""}}));
}

TEST(KeptTable, WithManyChangesAndFewEntriesItNeverFills) {
  std::mt19937_64 random(5);
  KeptTable table = KeptTable::create(Incarnation(7), kHalf).value();
  KeptTable::Entries expected;
  for (int i = 0; i < 20'000; ++i) {
    const TableKey key{static_cast<std::uint32_t>(random() % 3), random() % 10};
    if (random() % 5 == 0) {
      table.erase(key);
      expected.erase(key);
    } else {
      const std::string value(random() % 1000, static_cast<char>(random()));
      ASSERT_TRUE(table.put(key, value));
      expected[key] = value;
    }
    if (i % 1000 == 0) table = adopt(table);
    ASSERT_EQ(table.entries(), expected);
  }
  EXPECT_EQ(adopt(table).entries(), expected);
}

TEST(KeptTable, WhatDoesNotFitIsRefusedAndChangesNothing) {
  KeptTable table = KeptTable::create(Incarnation(7), kHalf).value();
  ASSERT_TRUE(table.put({1, 1}, std::string(kHalf / 2, 'a')));
  ASSERT_TRUE(table.put({1, 2}, "small"));
  EXPECT_EQ(table.put({1, 3}, std::string(kHalf / 2, 'b')).error().code(), ErrorCode::quota);
  EXPECT_EQ(table.put({1, 2}, std::string(kHalf, 'c')).error().code(), ErrorCode::quota);
  EXPECT_EQ(table.entries().at({1, 2}), "small");
  EXPECT_EQ(adopt(table).entries(), table.entries());
}

// A child counts up in keys by turns and is killed anywhere: what is found is a state that it was in.
TEST(KeptTable, OneThatIsKilledAnywhereLeavesAStateThatItWasIn) {
  constexpr std::uint64_t kKeys = 7;
  std::uint64_t changes = 0;
  for (int round = 0; round < 100; ++round) {
    KeptTable table = KeptTable::create(Incarnation(7), kHalf).value();
    const pid_t child = ::fork();
    if (child == 0) {
      KeptTable own = adopt(table);  // mappings do not outlive a fork
      for (std::uint64_t i = 0;; ++i)
        if (!own.put({1, i % kKeys}, std::string(500 + i % 3000, 'x') + std::to_string(i))) ::_exit(1);
    }
    ::usleep(static_cast<useconds_t>(500 + round * 37 % 3000));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    ASSERT_EQ(WTERMSIG(status), SIGKILL);
    const KeptTable next = adopt(table);
    std::map<std::uint64_t, std::uint64_t> last;
    std::uint64_t newest = 0;
    for (const auto& [key, value] : next.entries()) {
      last[key.id] = std::stoull(value.substr(value.rfind('x') + 1));
      newest = std::max(newest, last[key.id]);
    }
    for (std::uint64_t i = newest < kKeys ? 0 : newest - kKeys + 1; i <= newest && !last.empty(); ++i)
      EXPECT_EQ(last[i % kKeys], i);
    changes += newest;
  }
  EXPECT_GT(changes, 1000u) << "the children did not get far";
}

TEST(KeptTable, DamageAndNewerLayoutsAreTold) {
  KeptTable table = KeptTable::create(Incarnation(7), kHalf).value();
  ASSERT_TRUE(table.put({1, 1}, "value"));
  region::Mapping mapping = region::Mapping::map(table.fd(), region::Access::read_write, "the table").value();
  const auto open = [&] { return KeptTable::adopt(region::duplicate(table.fd(), "the table").value()); };
  auto* header = mapping.at<layout::RegionHeader>();
  header->version = layout::kRegionVersion + 1;
  EXPECT_EQ(open().error().code(), ErrorCode::version);
  header->version = layout::kRegionVersion;
  ASSERT_TRUE(open());
  mapping.data()[4096 + 25] ^= std::byte{1};  // in the value
  EXPECT_EQ(open().error().code(), ErrorCode::corrupt);
  const UniqueFd other = region::create_memfd("other", 2 * kHalf).value();
  EXPECT_EQ(KeptTable::adopt(region::duplicate(other.get(), "other").value()).error().code(), ErrorCode::corrupt);
}

}  // namespace
}  // namespace sluice::keep
