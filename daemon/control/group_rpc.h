// The calls of consumer groups, as any other call of a session: checked for form, posted to the bus thread, answered
// when that has answered.
//
// Owner: the control thread.
#pragma once

#include "daemon/control/session_calls.h"

namespace sluice::control {

class GroupServer : public SessionCalls {
 public:
  using SessionCalls::SessionCalls;

  kj::Promise<void> createGroup(CreateGroupContext context) override;
  kj::Promise<void> alterGroup(AlterGroupContext context) override;
  kj::Promise<void> deleteGroup(DeleteGroupContext context) override;
  kj::Promise<void> pauseGroup(PauseGroupContext context) override;
  kj::Promise<void> describeGroups(DescribeGroupsContext context) override;
  kj::Promise<void> explainGroup(ExplainGroupContext context) override;
  kj::Promise<void> seekGroup(SeekGroupContext context) override;
  kj::Promise<void> safeHorizon(SafeHorizonContext context) override;
  kj::Promise<void> groupEpochs(GroupEpochsContext context) override;
  kj::Promise<void> joinGroup(JoinGroupContext context) override;
  kj::Promise<void> leaveGroup(LeaveGroupContext context) override;
  kj::Promise<void> assignments(AssignmentsContext context) override;
  kj::Promise<void> saveAcks(SaveAcksContext context) override;
  kj::Promise<void> countDeadLetters(CountDeadLettersContext context) override;
  kj::Promise<void> listDeadLetters(ListDeadLettersContext context) override;
  kj::Promise<void> redrive(RedriveContext context) override;
  kj::Promise<void> purgeDeadLetters(PurgeDeadLettersContext context) override;
};

}  // namespace sluice::control
