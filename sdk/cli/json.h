// The SDK's values as JSON documents: snake_case keys, numbers as numbers, times in RFC 3339 beside the ns, durations
// in ns. Thread safety: pure functions.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "sluice/admin.h"

namespace sluice::cli {

using Json = nlohmann::ordered_json;

Json to_json(const TopicInfo& topic);
Json to_json(const std::vector<TopicInfo>& topics);
Json to_json(const std::string& topic, const AuditReport& report);
Json to_json(const std::string& topic, const ScrubReport& report);
Json to_json(const BusStatus& status);
Json to_json(const std::vector<DoctorCheck>& checks);
Json to_json(const std::vector<SessionInfo>& sessions);

// The document and a newline. Bytes that are not UTF-8 are replaced.
std::string text_of(const Json& document);

// True if the row's sum holds without gaps and repeats, and nothing was cut or quarantined.
bool row_holds(const AuditRow& row);

}  // namespace sluice::cli
