#include "shm/base/failpoint.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "shm/base/assert.h"

namespace sluice {
namespace {

#if defined(SLUICE_FAILPOINTS)
TEST(Failpoint, AHandlerSeesEveryHitByName) {
  std::vector<std::string> seen;
  failpoint::set_handler([&](std::string_view name) { seen.emplace_back(name); });
  SLUICE_FAILPOINT("one");
  SLUICE_FAILPOINT("two");
  failpoint::set_handler({});
  EXPECT_EQ(seen, (std::vector<std::string>{"one", "two"}));
}

TEST(FailpointDeathTest, TheEnvironmentChoosesPlaceActionAndHit) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  ::setenv("SLUICE_FAILPOINT", "other=abort,here=abort@3", 1);
  EXPECT_DEATH(
      {
        for (int i = 1; i <= 3; ++i) {
          std::fprintf(stderr, "hit %d\n", i);
          SLUICE_FAILPOINT("here");
        }
      },
      "hit 3");
  ::unsetenv("SLUICE_FAILPOINT");
}
#else
TEST(Failpoint, IsNotThereInThisBuild) { SLUICE_FAILPOINT("nothing happens"); }
#endif

TEST(AssertDeathTest, AFailedAssertionNamesConditionAndPlace) {
  EXPECT_DEATH(SLUICE_ASSERT(1 + 1 == 3), "1 \\+ 1 == 3.*failpoint_test.cc");
}

}  // namespace
}  // namespace sluice
