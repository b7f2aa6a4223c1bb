#include "sdk/cli/exit_code.h"

#include <gtest/gtest.h>

namespace sluice::cli {
namespace {

TEST(ExitCode, is_the_one_that_the_contract_names) {
  const std::pair<ErrorCode, int> expected[] = {
      {ErrorCode::invalid, 2},   {ErrorCode::no_daemon, 3},     {ErrorCode::permission, 4},  {ErrorCode::quota, 4},
      {ErrorCode::too_large, 4}, {ErrorCode::no_memory, 4},     {ErrorCode::revoked, 4},     {ErrorCode::version, 4},
      {ErrorCode::not_found, 5}, {ErrorCode::closed, 5},        {ErrorCode::would_block, 6}, {ErrorCode::timed_out, 6},
      {ErrorCode::unknown, 6},   {ErrorCode::claim_expired, 6}, {ErrorCode::io, 7},          {ErrorCode::corrupt, 7},
      {ErrorCode::internal, 7},  {ErrorCode::exists, 8},        {ErrorCode::conflict, 8},    {ErrorCode::fenced, 8},
      {ErrorCode::in_use, 8}};
  EXPECT_EQ(std::size(expected), static_cast<std::size_t>(ErrorCode::internal)) << "a code is missing here";
  for (const auto& [code, exit] : expected) EXPECT_EQ(exit_code(code), exit) << name(code);
}

TEST(ExitCode, no_error_ends_with_success_or_with_a_failed_check) {
  for (int code = 1; code <= static_cast<int>(ErrorCode::internal); ++code)
    EXPECT_GE(exit_code(static_cast<ErrorCode>(code)), 2);
}

}  // namespace
}  // namespace sluice::cli
