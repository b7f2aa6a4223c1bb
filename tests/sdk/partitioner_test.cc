#include "sdk/partitioner.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace sluice::internal {
namespace {

// These values are in every log that was ever written: a change sends keys elsewhere and breaks their order.
TEST(Partitioner, HashesOfKnownKeysNeverChange) {
  EXPECT_EQ(key_hash(""), 0xefd01f60ba992926u);
  EXPECT_EQ(key_hash("a"), 0x82a2a958a9bece5bu);
  EXPECT_EQ(key_hash("customer-42"), 0xe5c7993df9de03b9u);
}

TEST(Partitioner, ShortKeysSpreadEvenly) {
  std::vector<int> counts(7, 0);
  for (int i = 0; i < 7000; ++i) ++counts[partition_of_key(std::to_string(i), 7)];
  for (const int count : counts) EXPECT_NEAR(count, 1000, 150);
}

}  // namespace
}  // namespace sluice::internal
