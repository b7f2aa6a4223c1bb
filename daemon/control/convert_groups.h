// Between the schema's structures of consumer groups and the plain ones of session/group_interface.h; the rules of
// convert.h hold here too. Runs on the control thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/control/connection.h"
#include "daemon/session/group_interface.h"
#include "sdk/protocol/control.capnp.h"
#include "shm/base/result.h"

namespace sluice::control {

inline constexpr std::uint32_t kDeadLettersPerCallMax = 1024;  // of one listDeadLetters; more are asked for again
inline constexpr std::size_t kRedriveFiltersMax = 16;
inline constexpr std::size_t kFilterKeySizeMax = 32;     // bytes
inline constexpr std::size_t kFilterValueSizeMax = 256;  // bytes

Result<std::string> read_group_name(capnp::Text::Reader name);
struct GroupPlace {
  std::string group;
  std::string topic;
  PartitionNumber partition = 0;
};
Result<GroupPlace> read_group_place(capnp::Text::Reader group, capnp::Text::Reader topic, PartitionNumber partition);
Result<core::GroupConfig> read_group_config(protocol::GroupConfig::Reader in);
Result<core::GroupChange> read_group_change(protocol::GroupChange::Reader in);
Result<session::JoinGroup> read_join(protocol::JoinGroup::Reader in);
Result<session::SeekGroup> read_seek(protocol::SeekGroup::Reader in);
Result<session::Redrive> read_redrive(protocol::Redrive::Reader in);

// Where the connection holds too many descriptors already, nothing is given and the answer is a Failure.
void write_member_grant(protocol::JoinGroupResponse::Builder out, Connection& connection,
                        Result<session::MemberGrant> answer);
void write_group(protocol::GroupInfo::Builder out, const session::GroupInfo& info);
void write_reason(protocol::GroupReason::Builder out, const session::GroupReason& reason);
void write_seek_result(protocol::SeekResult::Builder out, const session::SeekResult& move);
void write_horizon(protocol::SafeHorizon::Builder out, const session::SafeHorizon& horizon);
void write_epoch(protocol::EpochStart::Builder out, const core::EpochStart& start);
void write_assignment(protocol::Assignment::Builder out, const session::Assignment& assignment);
void write_letter(protocol::DeadLetter::Builder out, const session::DeadLetter& letter);
void write_letter_count(protocol::DeadLetterCount::Builder out, const session::DeadLetterCount& count);
void write_redrive_outcome(protocol::RedriveOutcome::Builder out, const session::RedriveOutcome& outcome);

}  // namespace sluice::control
