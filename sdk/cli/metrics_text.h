// The bus in Prometheus's text exposition format (version 0.0.4), for a scraper's text file or a small exporter.
//
// A pure function of what the daemon has answered. Names end in their unit; `_total` are counters since the daemon's
// start, but for records, which count since the topic exists. Topic names and reasons are somebody's text: escaped.
#pragma once

#include <string>
#include <vector>

#include "sluice/admin.h"

namespace sluice::cli {

std::string metrics_text(const BusStatus& bus, const std::vector<TopicInfo>& topics,
                         const std::vector<SessionInfo>& sessions);

}  // namespace sluice::cli
