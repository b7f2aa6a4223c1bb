// Between the schema's structures and the plain ones of session/bus_interface.h. Runs on the control thread.
//
// read_…: what a client sent, copied once and checked against the limits of shm/base/limits.h; `invalid` or `quota`
// names the field. write_…: the bus's answers.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <kj/exception.h>

#include "daemon/session/bus_interface.h"
#include "sdk/protocol/control.capnp.h"
#include "shm/base/result.h"

namespace sluice::control {

// The one place where an exception of KJ becomes an Error.
Error to_error(const kj::Exception& exception, std::string_view doing);

Result<std::string> read_text(capnp::Text::Reader text, std::size_t size_max, std::string_view what);
// An enumerator that this build knows, or invalid: newer clients may send more.
template <typename To, typename From>
Result<To> read_enum(From value, unsigned count, std::string_view what) {
  const auto ordinal = static_cast<std::uint16_t>(value);
  if (ordinal >= count) {
    return fail(ErrorCode::invalid, "reading a request: " + std::string(what) + " " + std::to_string(ordinal) +
                                        " is not known to this daemon");
  }
  return static_cast<To>(ordinal);
}
// A client's free text for display: cut to size, control characters replaced.
std::string read_display_text(capnp::Text::Reader text, std::size_t size_max);
Result<core::TopicRequest> read_request(protocol::TopicConfig::Reader in);
Result<core::TopicChange> read_change(protocol::TopicChange::Reader in);
Result<session::OpenProducer> read_open_producer(protocol::OpenProducer::Reader in);
Result<session::OpenReader> read_open_reader(protocol::OpenReader::Reader in);
Result<session::Access> read_access(protocol::Access access);
Result<std::vector<session::SequenceReport>> read_reports(capnp::List<protocol::SequenceReport>::Reader in);

void write_failure(protocol::Failure::Builder out, const Error& error);
void write_done(protocol::Done::Builder out, const Status& status);
void write_topic(protocol::TopicInfo::Builder out, const session::TopicInfo& topic);
void write_audit(protocol::AuditReport::Builder out, const session::AuditReport& report);
void write_scrub(protocol::ScrubReport::Builder out, const session::ScrubReport& report);
void write_status(protocol::BusStatus::Builder out, const session::BusStatus& status);
void write_check(protocol::DoctorCheck::Builder out, const session::DoctorCheck& check);
void write_session(protocol::SessionInfo::Builder out, const session::SessionInfo& info);
void write_ranges(capnp::List<protocol::PartitionRange>::Builder out,
                  const std::vector<session::PartitionRange>& ranges);

}  // namespace sluice::control
