#include "shm/base/result.h"

#include <cerrno>
#include <memory>
#include <set>
#include <string>

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(Result, EveryCodeHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (int code = static_cast<int>(ErrorCode::invalid); code <= static_cast<int>(ErrorCode::internal); ++code) {
    const std::string_view text = name(static_cast<ErrorCode>(code));
    EXPECT_NE(text, "unnamed") << code;
    EXPECT_TRUE(names.insert(text).second) << text;
  }
  EXPECT_EQ(name(static_cast<ErrorCode>(250)), "unnamed");
}

TEST(Result, AMessageSaysContextReasonAndCode) {
  const Error with_errno = system_error(ENOENT, "opening /data/0.log");
  EXPECT_EQ(with_errno.message(), "opening /data/0.log: No such file or directory (not_found)");
  EXPECT_EQ(Error(ErrorCode::corrupt, "reading a").message(), "reading a (corrupt)");
}

TEST(Result, TheCodeOfASystemErrorSaysWhatToDo) {
  EXPECT_EQ(system_error(ENOSPC, "").code(), ErrorCode::would_block);
  EXPECT_EQ(system_error(EDQUOT, "").code(), ErrorCode::would_block);
  EXPECT_EQ(system_error(EACCES, "").code(), ErrorCode::permission);
  EXPECT_EQ(system_error(EEXIST, "").code(), ErrorCode::exists);
  EXPECT_EQ(system_error(ENOMEM, "").code(), ErrorCode::no_memory);
  EXPECT_EQ(system_error(EIO, "").code(), ErrorCode::io);
  EXPECT_EQ(system_error(EIO, "").system_errno(), EIO);
}

Status check(bool ok) {
  if (!ok) return fail(ErrorCode::invalid, "checking");
  return {};
}
Result<std::unique_ptr<int>> make(bool ok) {
  if (!ok) return fail(ErrorCode::no_memory, "making");
  return std::make_unique<int>(7);
}
Result<int> use(bool check_ok, bool make_ok) {
  SLUICE_TRY(check(check_ok));
  SLUICE_ASSIGN(const auto value, make(make_ok));
  return *value;
}

TEST(Result, TheMacrosPassValuesOnAndErrorsOut) {
  EXPECT_EQ(use(true, true).value(), 7);
  EXPECT_EQ(use(false, true).error().code(), ErrorCode::invalid);
  EXPECT_EQ(use(true, false).error().code(), ErrorCode::no_memory);
}

}  // namespace
}  // namespace sluice
