// Between the schema's structures of consumer groups and the SDK's plain ones. Runs on the control thread.
#pragma once

#include <vector>

#include "sdk/control_types.h"
#include "sdk/protocol/control.capnp.h"
#include "sluice/group.h"

namespace sluice::internal {

void write_group_config(protocol::GroupConfig::Builder out, const GroupConfig& config);
void write_group_change(protocol::GroupChange::Builder out, const GroupChange& change);
void write_start(protocol::GroupStart::Builder out, const From& from);
void write_join(protocol::JoinGroup::Builder out, const JoinGroup& request);
void write_redrive(protocol::Redrive::Builder out, const RedriveOptions& options);

GroupConfig read_group_config(protocol::GroupConfig::Reader in);
GroupInfo read_group(protocol::GroupInfo::Reader in);
GroupReason read_reason(protocol::GroupReason::Reader in);
std::vector<SeekMove> read_moves(capnp::List<protocol::SeekResult>::Reader in);
SafeHorizon read_horizon(protocol::SafeHorizon::Reader in);
std::vector<EpochStart> read_epochs(capnp::List<protocol::EpochStart>::Reader in);
std::vector<Assignment> read_assignments(capnp::List<protocol::Assignment>::Reader in);
std::vector<DeadLetterCount> read_letter_counts(capnp::List<protocol::DeadLetterCount>::Reader in);
std::vector<DeadLetter> read_letters(capnp::List<protocol::DeadLetter>::Reader in);
std::vector<RedriveOutcome> read_outcomes(capnp::List<protocol::RedriveOutcome>::Reader in);

}  // namespace sluice::internal
