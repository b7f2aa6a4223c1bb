#include "daemon/core/resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "shm/base/limits.h"

namespace sluice::core {
namespace {

using testing::HasSubstr;

const ResolverConfig kGood{"shop", {"/usr/libexec/shop-resolver"}, kResolverTimeoutNsDefault};

std::string error_of(const ResolverConfig& resolver) {
  const Status checked = check(resolver);
  EXPECT_FALSE(checked);
  return checked ? "" : checked.error().context();
}

TEST(Resolver, OneOfAnAbsolutePathIsTakenAndWhatNoneCouldRunIsRefusedWithTheReason) {
  EXPECT_TRUE(check(kGood));
  ResolverConfig bad = kGood;
  bad.command = {"shop-resolver"};
  EXPECT_THAT(error_of(bad), HasSubstr("absolute path"));
  bad.command = {};
  EXPECT_THAT(error_of(bad), HasSubstr("absolute path"));
  bad.command = {"/x", std::string("a\0b", 3)};
  EXPECT_THAT(error_of(bad), HasSubstr("zero"));
  bad = kGood;
  bad.group = {};
  EXPECT_THAT(error_of(bad), HasSubstr("name of a producer group"));
  bad.group = std::string("sh\0op", 5);
  EXPECT_THAT(error_of(bad), HasSubstr("zero"));
}

TEST(Resolver, EachOfItsLimitsIsKept) {
  ResolverConfig one = kGood;
  one.command.resize(kResolverWordsMax, "x");
  EXPECT_TRUE(check(one));
  one.command.emplace_back("x");
  EXPECT_THAT(error_of(one), HasSubstr("at most 64"));
  one = kGood;
  one.command.emplace_back(kResolverWordSizeMax, 'x');
  EXPECT_TRUE(check(one));
  one.command.back() += 'x';
  EXPECT_THAT(error_of(one), HasSubstr("at most 4096 bytes"));
  one = kGood;
  one.group.assign(kGroupNameSizeMax, 'g');
  EXPECT_TRUE(check(one));
  one.group += 'g';
  EXPECT_FALSE(check(one));
  one = kGood;
  one.timeout_ns = kResolverTimeoutNsMin - 1;
  EXPECT_THAT(error_of(one), HasSubstr("from 100ms to 10m"));
  one.timeout_ns = kResolverTimeoutNsMax + 1;
  EXPECT_FALSE(check(one));
}

TEST(Resolver, AGroupHasOneAndThereAreSoMany) {
  std::vector<ResolverConfig> all;
  for (std::size_t i = 0; i < kResolversMax; ++i) {
    all.push_back(kGood);
    all.back().group = "group-" + std::to_string(i);
  }
  EXPECT_TRUE(check(all));
  all.back().group = "group-0";
  EXPECT_THAT(check(all).error().context(), HasSubstr("group \"group-0\": it has one already"));
  all.back().group = "group-63";
  all.push_back(kGood);
  EXPECT_THAT(check(all).error().context(), HasSubstr("at most 64"));
}

}  // namespace
}  // namespace sluice::core
