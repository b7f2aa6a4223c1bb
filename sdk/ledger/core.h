// What the parts of the ledger share: the connection with its statements, and the checks of what the application gives.
//
// Owner: one Ledger, on the thread of its connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "sdk/ledger/statements.h"
#include "sluice/ledger/connection.h"
#include "sluice/ledger/key.h"
#include "sluice/ledger/ledger.h"
#include "sluice/result.h"

namespace sluice::ledger {

// "doing: why", with the code of the error.
Error explain(const std::string& doing, const Error& error);
// Runs one statement; an error says what was being done.
Result<Answer> run(Connection& connection, const std::string& doing, const std::string& sql,
                   std::initializer_list<Parameter> parameters = {});
// The number in a row's column. corrupt: something else is there.
Result<std::uint64_t> number(const std::string& doing, const Answer& answer, std::size_t row, std::size_t column);

// Databases keep signed numbers. invalid: it is above their range.
Result<std::int64_t> as_signed(const std::string& doing, std::string_view what, std::uint64_t value);
// invalid: empty, or with a zero byte, which PostgreSQL cannot keep. too_large: above `size_max`.
Status check_text(const std::string& doing, std::string_view what, std::string_view text, std::size_t size_max);

// A key as it is bound: checked, and signed. The group's text stays the caller's.
struct KeyColumns {
  std::string_view group;
  std::int64_t topic = 0;
  std::int64_t partition = 0;
  std::int64_t position = 0;
  std::int64_t epoch = 0;
};
Result<KeyColumns> columns_of(const std::string& doing, const MessageKey& key);
// "message 7/0@4096 of group billing (epoch 0)": a topic goes by its id here.
std::string describe(const MessageKey& key);

struct Ledger::Impl {
  Connection& connection;
  Statements sql;
};

}  // namespace sluice::ledger
