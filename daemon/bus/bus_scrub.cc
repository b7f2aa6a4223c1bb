// Bus: an operator has a topic's log files looked at. The work itself is Scrub's; the answer is what it found so far.
#include "daemon/bus/bus.h"

namespace sluice::bus {

Result<session::ScrubReport> Bus::scrub_topic(SessionId session_id, const std::string& name,
                                              std::optional<PartitionNumber> partition, bool start) {
  SLUICE_ASSIGN(session::Session * session, live_session(session_id));
  const std::string doing = "scrubbing topic " + name;
  SLUICE_TRY(require_operator(*session, doing));
  SLUICE_ASSIGN(Topic * topic, find_topic(name));
  if (topic->is_volatile()) return fail(ErrorCode::invalid, doing + ": it is volatile, and has no log files");
  if (partition && *partition >= topic->partitions().size())
    return fail(ErrorCode::not_found, doing + ": it has no partition " + std::to_string(*partition));
  if (start) scrub_.start_run(topic->id(), partition);
  return scrub_.report(topic->id());
}

}  // namespace sluice::bus
