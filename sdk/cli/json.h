// The SDK's values as JSON documents: snake_case keys, numbers as numbers, times in RFC 3339 beside the ns, durations
// in ns. Thread safety: pure functions.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "sluice/admin.h"
#include "sluice/group.h"

namespace sluice::cli {

using Json = nlohmann::ordered_json;

Json to_json(const TopicInfo& topic);
Json to_json(const std::vector<TopicInfo>& topics);
Json to_json(const std::string& topic, const AuditReport& report);
Json to_json(const std::string& topic, const ScrubReport& report);
Json to_json(const BusStatus& status);
Json to_json(const std::vector<DoctorCheck>& checks);
Json to_json(const std::vector<SessionInfo>& sessions);

// Consumer groups; their durations are in ms, as numbers.
Json to_json(const GroupInfo& group);
Json to_json(const std::vector<GroupInfo>& groups);
Json to_json(const std::vector<DeadLetterCount>& counts);
// `origin` is the address that the message was read at.
Json to_json(const DeadLetter& letter);
Json to_json(const std::string& group, const std::vector<RedriveOutcome>& outcomes, bool dry_run);

// The document and a newline. Bytes that are not UTF-8 are replaced.
std::string text_of(const Json& document);

// True if the row's sum holds without gaps and repeats, and nothing was cut or quarantined.
bool row_holds(const AuditRow& row);

}  // namespace sluice::cli
