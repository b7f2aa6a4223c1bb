// Forgetting below the safe horizon.
//
//   horizons: what was said of a partition in one epoch; what is below is settled for good, but for the exceptions
//   parked: these exceptions
//
// Invariants
//  1. A noted horizon only rises, and of what is below it exceptions only leave: what was once said stays true, so that
//     a horizon which comes late adds to it and takes nothing back.
//  2. A row goes in the transaction that has noted the horizon which lets it go, or in a later one.
//  3. The noted horizon's row is locked first: two that forget at a time do so one after the other.
#include <algorithm>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <variant>

#include "sdk/ledger/core.h"

namespace sluice::ledger {
namespace {

constexpr std::int64_t kNoEnd = std::numeric_limits<std::int64_t>::max();

struct HorizonColumns {
  std::string_view group;
  std::int64_t topic = 0;
  std::int64_t partition = 0;
  std::int64_t epoch = 0;
  std::int64_t below = 0;
};

Result<std::set<std::int64_t>> parked_positions(const std::string& doing, const Horizon& horizon) {
  if (horizon.parked.size() > kParkedMax)
    return fail(ErrorCode::quota, doing + ": " + std::to_string(horizon.parked.size()) +
                                      " messages are parked, at most " + std::to_string(kParkedMax) +
                                      " are kept apart: redrive or purge them first (sluice dlq)");
  std::set<std::int64_t> positions;
  for (const Position position : horizon.parked) {
    SLUICE_ASSIGN(const std::int64_t column, as_signed(doing, "parked position", position.value));
    positions.insert(column);
  }
  return positions;
}

class Forgetting {
 public:
  Forgetting(Connection& connection, const Statements& sql, const std::string& doing, const HorizonColumns& noted)
      : connection_(connection), sql_(sql), doing_(doing), noted_(noted) {}

  // Afterwards `below` is what is noted, which may be higher than what was said now.
  Status note(const std::set<std::int64_t>& listed) {
    SLUICE_ASSIGN(const Answer locked, run(connection_, doing_, sql_.lock_horizon,
                                           {noted_.group, noted_.topic, noted_.partition, noted_.epoch}));
    SLUICE_ASSIGN(const std::uint64_t number_before, number(doing_, locked, 0, 0));
    const std::int64_t before = static_cast<std::int64_t>(number_before);
    SLUICE_ASSIGN(const std::set<std::int64_t> stored, stored_exceptions());
    for (const std::int64_t position : stored)
      if (position < noted_.below && !listed.contains(position))
        SLUICE_TRY(run_with_position(sql_.delete_parked, position));
    for (const std::int64_t position : listed)
      if (position >= before && !stored.contains(position)) SLUICE_TRY(run_with_position(sql_.insert_parked, position));
    if (noted_.below > before)
      SLUICE_TRY(run(connection_, doing_, sql_.raise_horizon,
                     {noted_.below, noted_.group, noted_.topic, noted_.partition, noted_.epoch}));
    noted_.below = std::max(noted_.below, before);
    return {};
  }

  Result<Forgotten> remove() {
    SLUICE_ASSIGN(const Answer end, run(connection_, doing_, sql_.select_end,
                                        {noted_.group, noted_.topic, noted_.partition, noted_.epoch, noted_.below,
                                         static_cast<std::int64_t>(kForgetRowsMax)}));
    std::int64_t end_position = kNoEnd;
    std::int64_t end_epoch = kNoEnd;
    if (!end.rows.empty()) {
      SLUICE_ASSIGN(const std::uint64_t position, number(doing_, end, 0, 0));
      SLUICE_ASSIGN(const std::uint64_t epoch, number(doing_, end, 0, 1));
      end_position = static_cast<std::int64_t>(position);
      end_epoch = static_cast<std::int64_t>(epoch);
    }
    SLUICE_ASSIGN(const Answer removed, run(connection_, doing_, sql_.delete_below,
                                            {noted_.group, noted_.topic, noted_.partition, noted_.epoch, noted_.below,
                                             end_position, end_epoch}));
    return Forgotten{static_cast<std::size_t>(removed.changed), !end.rows.empty()};
  }

 private:
  Result<Answer> run_with_position(const std::string& statement, std::int64_t position) {
    return run(connection_, doing_, statement, {noted_.group, noted_.topic, noted_.partition, noted_.epoch, position});
  }
  Result<std::set<std::int64_t>> stored_exceptions() {
    SLUICE_ASSIGN(const Answer answer, run(connection_, doing_, sql_.select_parked,
                                           {noted_.group, noted_.topic, noted_.partition, noted_.epoch}));
    std::set<std::int64_t> positions;
    for (std::size_t row = 0; row < answer.rows.size(); ++row) {
      SLUICE_ASSIGN(const std::uint64_t position, number(doing_, answer, row, 0));
      positions.insert(static_cast<std::int64_t>(position));
    }
    return positions;
  }

  Connection& connection_;
  const Statements& sql_;
  const std::string& doing_;
  HorizonColumns noted_;
};

}  // namespace

Result<Forgotten> Ledger::forget(const Horizon& horizon) {
  const std::string doing = "forgetting what group " + horizon.group + " has settled below " +
                            std::to_string(horizon.topic.value) + "/" + std::to_string(horizon.partition) + "@" +
                            std::to_string(horizon.below.value);
  if (Status ready = impl_->connection.require_transaction(); !ready) return fail(explain(doing, ready.error()));
  SLUICE_TRY(check_text(doing, "group", horizon.group, kGroupSizeMax));
  HorizonColumns noted{horizon.group, horizon.topic.value, horizon.partition};
  SLUICE_ASSIGN(noted.epoch, as_signed(doing, "epoch", horizon.epoch));
  // Of a deleted topic it may be any number.
  noted.below = static_cast<std::int64_t>(std::min<std::uint64_t>(horizon.below.value, kNoEnd));
  SLUICE_ASSIGN(const std::set<std::int64_t> listed, parked_positions(doing, horizon));
  Forgetting forgetting(impl_->connection, impl_->sql, doing, noted);
  SLUICE_TRY(forgetting.note(listed));
  return forgetting.remove();
}

Result<Forgotten> Ledger::forget_ids(std::string_view group, std::uint64_t before_ns) {
  const std::string doing = "forgetting old ids of group " + std::string(group);
  Connection& connection = impl_->connection;
  if (Status ready = connection.require_transaction(); !ready) return fail(explain(doing, ready.error()));
  SLUICE_TRY(check_text(doing, "group", group, kGroupSizeMax));
  SLUICE_ASSIGN(const std::int64_t before, as_signed(doing, "time", before_ns));
  SLUICE_ASSIGN(const Answer end, run(connection, doing, impl_->sql.select_ids_end,
                                      {group, before, static_cast<std::int64_t>(kForgetRowsMax)}));
  std::int64_t end_time = kNoEnd;
  std::int64_t end_epoch = kNoEnd;
  std::string end_id;
  if (!end.rows.empty()) {
    SLUICE_ASSIGN(const std::uint64_t time, number(doing, end, 0, 0));
    SLUICE_ASSIGN(const std::uint64_t epoch, number(doing, end, 0, 1));
    end_time = static_cast<std::int64_t>(time);
    end_epoch = static_cast<std::int64_t>(epoch);
    const auto& cells = end.rows.front();
    if (cells.size() > 2)
      if (const std::string* id = std::get_if<std::string>(&cells[2])) end_id = *id;
  }
  SLUICE_ASSIGN(const Answer removed, run(connection, doing, impl_->sql.delete_ids,
                                          {group, before, end_time, end_epoch, std::string_view(end_id)}));
  return Forgotten{static_cast<std::size_t>(removed.changed), !end.rows.empty()};
}

}  // namespace sluice::ledger
