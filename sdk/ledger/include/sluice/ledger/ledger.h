// Handling each message exactly once in the application's own database: the ledger notes, inside the application's
// transaction, that a message was handled, so that the note and the effects are there together or not at all.
//
//   begin;                                            // the application's, on its own connection
//   auto seen = ledger.record(key);                   // first: nobody has handled it
//   if (seen && seen->outcome == Outcome::first) ...  // the effects, in the same transaction
//   commit; then ack
//
// Three patterns (docs/LEDGER.md says when which): a row per message, and per id of the application (record); a version
// that moves by one (advance); a row with the answer that the repeat gets (record, keep_result, check).
//
// Owner: the application, on the thread of its connection; one Ledger per connection, kept as long as it.
//
// Invariants
//  1. Of all transactions that commit, one at most was told `first` of a key. Whether a commit whose answer was lost
//     went through, the repeat finds out.
//  2. It writes in the application's transaction alone, and never ends it.
//  3. What was forgotten never is `first` again: forget() notes the horizon with the rows that it removes, and a
//     delivery from below it, in the hands of a handler that was late, is a repeat.
// Invariant 3 holds at READ COMMITTED, at SERIALIZABLE if forget() runs at that too, and on SQLite. At REPEATABLE READ
// a transaction does not see a forget() that came after its begin.
//
// Errors, and what is to be done; the transaction is to be rolled back after each of them:
//   would_block  busy, deadlock, serialisation failure, disk full: handle the message again (nack)
//   closed       the connection is lost: the transaction with it, unless it was committing. Connect again; the message
//                comes again
//   not_found    the tables are not there: migrate()
//   version      the tables are another build's: migrate(), or start the newer build
//   invalid      no transaction, a name or number that cannot be: mend the call
//   too_large · quota · permission · corrupt · io · no_memory · internal: as their message says
// Lifetimes: the connection outlives it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "sluice/ledger/connection.h"
#include "sluice/ledger/key.h"
#include "sluice/result.h"

namespace sluice::ledger {

// Letters, digits and underscores, no digit first.
struct Options {
  std::string schema;  // PostgreSQL: a schema; SQLite: an attached database; empty: where unqualified names go
  std::string prefix = "sluice_ledger_";  // of each table
};

enum class Outcome : std::uint8_t {
  first,   // go on: the note is made, and counts when the application commits
  repeat,  // it was handled before: change nothing, and ack
};
struct Record {
  Outcome outcome = Outcome::first;
  std::optional<std::string> result;  // of a repeat: what keep_result() was given, unless it is forgotten
};

// An id by which the application knows two messages for the same (an order's number).
struct ApplicationId {
  std::string_view id;
  std::uint64_t time_ns = 0;  // now, since the epoch; what forget_ids() goes by
};

struct Advance {
  enum class Outcome : std::uint8_t {
    first,   // the version has moved
    repeat,  // it is there or beyond already: change nothing, and ack
    early,   // an earlier one is missing: change nothing, and nack
  } outcome = Outcome::first;
  std::uint64_t version = 0;  // that stands now, in this transaction
};
// A column of the application's own table that counts the changes of a row.
struct VersionColumn {
  std::string table;
  std::string id;       // column; unique
  std::string version;  // column; an integer, not null
};

struct Forgotten {
  std::size_t rows = 0;
  bool more = false;  // kForgetRowsMax were removed, and there may be others: call again, in another transaction
};

// Makes the ledger's tables, or brings those of an older build up to this one's, in the application's transaction. Does
// nothing where they are right. Two at a time wait for each other (PostgreSQL), or one is told would_block (SQLite).
SLUICE_EXPORT Status migrate(Connection& connection, const Options& options = {});

class SLUICE_EXPORT Ledger {
 public:
  // Looks at the tables' version. Needs no transaction.
  static Result<Ledger> open(Connection& connection, const Options& options = {});
  Ledger(Ledger&&) noexcept;
  Ledger& operator=(Ledger&&) noexcept;
  ~Ledger();

  // ---- A row per message

  // Waits for another transaction that has recorded the same key and not ended (SQLite: as sqlite3_busy_timeout says).
  Result<Record> record(const MessageKey& key);
  // First only if neither the message nor, in this epoch of this group, the id was recorded.
  Result<Record> record(const MessageKey& key, const ApplicationId& id);
  // Keeps what the repeat is to be answered. not_found: this message was not recorded.
  Status keep_result(const MessageKey& key, std::string_view result);
  // Reads alone: nothing if nobody has handled it, as far as this transaction sees. Holds nobody off: record() decides.
  Result<std::optional<Record>> check(const MessageKey& key);

  // ---- A version per subject: messages that carry contiguous numbers from 1 on

  // From version − 1 to `version`, or nothing. Epochs do not count here: the version says what the application's data
  // holds. Who wants changes applied again takes the data back, and the version with it.
  Result<Advance> advance(std::string_view group, std::string_view subject, std::uint64_t version);
  // The same with a column of the application's, of the row whose id column is `id`. not_found: no such row.
  Result<Advance> advance(const VersionColumn& column, std::string_view id, std::uint64_t version);
  // For data that were loaded or taken back. 0: as if nothing had been applied.
  Status set_version(std::string_view group, std::string_view subject, std::uint64_t version);

  // ---- Forgetting, in steps

  // Removes rows of messages below the horizon, but for the parked ones. A horizon that is older than the last one does
  // no harm. quota: more than kParkedMax are parked.
  Result<Forgotten> forget(const Horizon& horizon);
  // Removes ids that were recorded before that time: from then on a *new* message with such an id is a first one. The
  // rows of messages stay: one that is delivered again is a repeat all the same.
  Result<Forgotten> forget_ids(std::string_view group, std::uint64_t before_ns);

 private:
  struct Impl;
  explicit Ledger(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::ledger
