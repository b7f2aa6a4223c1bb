// Between the schema's structures and the SDK's plain ones. Runs on the control thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <kj/exception.h>

#include "sdk/control_types.h"
#include "sdk/protocol/control.capnp.h"
#include "shm/base/result.h"
#include "sluice/admin.h"

namespace sluice::internal {

// The one place in the SDK where an exception of KJ becomes an Error.
Error to_error(const kj::Exception& exception, std::string_view doing);
Error read_failure(protocol::Failure::Reader in);
// A Failure that stands beside a result: its code is 0 if there was none.
Status read_status_beside(protocol::Failure::Reader in);
Status read_done(protocol::Done::Reader in);

std::string copy(capnp::Text::Reader text);
std::uint64_t count_of(Duration duration);  // ns; 0 for what is less
Duration duration_of(std::uint64_t ns);

void write_config(protocol::TopicConfig::Builder out, const TopicConfig& config);
void write_change(protocol::TopicChange::Builder out, const TopicChange& change);

TopicInfo read_topic(protocol::TopicInfo::Reader in);
AuditReport read_audit(protocol::AuditReport::Reader in);
ScrubReport read_scrub(protocol::ScrubReport::Reader in);
BusStatus read_status(protocol::BusStatus::Reader in);
std::vector<DoctorCheck> read_checks(capnp::List<protocol::DoctorCheck>::Reader in);
std::vector<SessionInfo> read_sessions(capnp::List<protocol::SessionInfo>::Reader in);
std::vector<PartitionRange> read_ranges(capnp::List<protocol::PartitionRange>::Reader in);
std::vector<LastSent> read_last(capnp::List<protocol::LastSent>::Reader in);

}  // namespace sluice::internal
