// Consumer groups, moves and dead letters as tables for people. Names, reasons and payloads are others': what is no
// text is escaped. Thread safety: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sluice/group.h"

namespace sluice::cli {

// One line a group.
std::string group_list_text(const std::vector<GroupInfo>& groups);
// The same with rates, for a screen that is drawn again and again.
std::string group_rates_text(const std::vector<GroupInfo>& groups);
// "2.5/s", "1,234/s"
std::string rate_text(double per_s);
// Settings, members, partitions.
std::string group_text(const GroupInfo& group);

// One line a partition.
std::string moves_text(const std::vector<SeekMove>& moves);
// The commands that put the cursors back, one for each partition that moves.
std::vector<std::string> undo_commands(const std::string& group, const std::vector<SeekMove>& moves);

std::string letter_counts_text(const std::vector<DeadLetterCount>& counts);
// TOPIC/PARTITION@POSITION of the message that was parked.
std::string origin_of(const DeadLetter& letter);
// A letter and its payload, or why there is none.
struct LetterRow {
  DeadLetter letter;
  std::string payload;  // as printed
};
std::string letters_text(const std::vector<LetterRow>& rows);
// The first bytes of a payload on one line.
std::string payload_preview(std::string_view payload);
std::string outcomes_text(const std::vector<RedriveOutcome>& outcomes);
// True if it was redriven, or would be.
bool went_well(const RedriveOutcome& outcome);

}  // namespace sluice::cli
