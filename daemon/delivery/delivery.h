#pragma once

#include "daemon/session/group_interface.h"

namespace sluice::delivery {

class Delivery final : public session::GroupInterface {
 public:
  Status create_group(SessionId, core::GroupConfig) override { return none(); }
  Status alter_group(SessionId, const std::string&, core::GroupChange) override { return none(); }
  Status delete_group(SessionId, const std::string&) override { return none(); }
  Status pause_group(SessionId, const std::string&, bool) override { return none(); }
  Result<std::vector<session::GroupInfo>> describe_groups(SessionId, const std::string&) override { return none(); }
  Result<session::GroupReason> explain_group(SessionId, const std::string&) override { return none(); }
  Result<std::vector<session::SeekResult>> seek_group(SessionId, session::SeekGroup) override { return none(); }
  Result<session::MemberGrant> join_group(SessionId, session::JoinGroup) override { return none(); }
  Status leave_group(SessionId, std::uint64_t) override { return none(); }
  Result<std::vector<session::Assignment>> assignments(SessionId, std::uint64_t) override { return none(); }
  Status save_acks(SessionId, std::uint64_t) override { return none(); }
  Result<std::vector<session::DeadLetterCount>> count_dead_letters(SessionId, const std::string&) override {
    return none();
  }
  Result<std::vector<session::DeadLetter>> list_dead_letters(SessionId, const std::string&, std::uint64_t,
                                                             std::uint32_t) override {
    return none();
  }
  Result<std::vector<session::RedriveOutcome>> redrive(SessionId, session::Redrive) override { return none(); }
  Result<std::uint64_t> purge_dead_letters(SessionId, const std::string&) override { return none(); }

 private:
  static tl::unexpected<Error> none() { return fail(ErrorCode::internal, "groups: not in this build"); }
};

}  // namespace sluice::delivery
