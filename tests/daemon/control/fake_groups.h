// Consumer groups for tests of the control channel: answers with a value of its own in every field, and keeps what each
// call was given. Owner: FakeBus; the bus thread's.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "daemon/session/group_interface.h"

namespace sluice::test {

class FakeGroups final : public session::GroupInterface {
 public:
  Status create_group(SessionId session, core::GroupConfig config) override;
  Status alter_group(SessionId session, const std::string& name, core::GroupChange change) override;
  Status delete_group(SessionId session, const std::string& name) override;
  Status pause_group(SessionId session, const std::string& name, bool pause) override;
  Result<std::vector<session::GroupInfo>> describe_groups(SessionId session, const std::string& name) override;
  Result<session::GroupReason> explain_group(SessionId session, const std::string& name) override;
  Result<std::vector<session::SeekResult>> seek_group(SessionId session, session::SeekGroup request) override;
  Result<session::SafeHorizon> safe_horizon(SessionId session, const std::string& group, const std::string& topic,
                                            PartitionNumber partition) override;
  Result<std::vector<core::EpochStart>> group_epochs(SessionId session, const std::string& group, TopicId topic,
                                                     PartitionNumber partition) override;
  Result<session::MemberGrant> join_group(SessionId session, session::JoinGroup request) override;
  Status leave_group(SessionId session, std::uint64_t member) override;
  Result<std::vector<session::Assignment>> assignments(SessionId session, std::uint64_t member) override;
  Status save_acks(SessionId session, std::uint64_t member) override;
  Result<std::vector<session::DeadLetterCount>> count_dead_letters(SessionId session,
                                                                   const std::string& group) override;
  Result<std::vector<session::DeadLetter>> list_dead_letters(SessionId session, const std::string& group,
                                                             std::uint64_t after_id, std::uint32_t limit) override;
  Result<std::vector<session::RedriveOutcome>> redrive(SessionId session, session::Redrive request) override;
  Result<std::uint64_t> purge_dead_letters(SessionId session, const std::string& group) override;

  static constexpr std::uint64_t kMember = 41;  // the only one that there is
  static session::DeadLetter letter();

  // What some of them answer.
  bool well = true;
  std::string redrive_outcome = "would_redrive";
  // What the calls were given last.
  std::optional<core::GroupConfig> created;
  std::optional<core::GroupChange> altered;
  std::optional<bool> paused;
  std::optional<session::SeekGroup> sought;
  std::optional<session::JoinGroup> joined;
  std::optional<session::Redrive> redriven;
  std::string described;
  std::uint64_t after_id = 0;
  std::uint32_t limit = 0;
  // How often they were called.
  std::uint32_t creates = 0, deletes = 0, joins = 0, leaves = 0, saves = 0, purges = 0, seeks = 0, redrives = 0;

 private:
  // not_found for all but "billing".
  static Status known(const std::string& name);
  static Status known(std::uint64_t member);
};

}  // namespace sluice::test
