#include "daemon/core/topic.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <string_view>
#include <utility>

namespace sluice::core {
namespace {

bool is_name_character(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

Status refuse(const TopicConfig& config, const std::string& why) {
  return fail(ErrorCode::invalid, "topic \"" + config.name.substr(0, kTopicNameSizeMax) + "\": " + why);
}

Status check_name(const TopicConfig& config) {
  const std::string& name = config.name;
  if (name.empty()) return fail(ErrorCode::invalid, "topic: the name is empty; give it 1 to 200 of A-Z a-z 0-9 . _ -");
  if (name.size() > kTopicNameSizeMax)
    return refuse(config, "the name has " + std::to_string(name.size()) + " bytes; at most " +
                              std::to_string(kTopicNameSizeMax) + " are allowed");
  if (name.front() == '.') return refuse(config, "a name must not start with a dot");
  if (!std::all_of(name.begin(), name.end(), is_name_character))
    return refuse(config, "a name consists of A-Z a-z 0-9 . _ - alone");
  return {};
}

Status check_sizes(const TopicConfig& config) {
  if (config.partitions < 1 || config.partitions > kPartitionsPerTopicMax)
    return refuse(config, std::to_string(config.partitions) + " partitions; 1 to " +
                              std::to_string(kPartitionsPerTopicMax) + " are allowed");
  if (!std::has_single_bit(config.segment_size) || config.segment_size < kSegmentSizeMin ||
      config.segment_size > kSegmentSizeMax)
    return refuse(config, "a segment size of " + std::to_string(config.segment_size) +
                              " bytes; a power of two from 64KiB to 1GiB is needed");
  if (config.slots < kSlotsMin || config.slots > kSlotsMax)
    return refuse(config, std::to_string(config.slots) + " slots; " + std::to_string(kSlotsMin) + " to " +
                              std::to_string(kSlotsMax) + " are allowed");
  return {};
}

Status check_ttl(const TopicConfig& config) {
  const std::uint64_t ttl = config.message_ttl_ns;
  if (ttl == 0) return {};
  if (ttl < kMessageTtlNsMin || ttl > kMessageTtlNsMax)
    return refuse(config, "a time to live of " + std::to_string(ttl) + " ns; 1 ms to 10 years (3650d) are allowed");
  if (config.time_mode == TimeMode::none)
    return refuse(config, "a time to live needs messages with a time: use time coarse or precise");
  return {};
}

Status check_combinations(const TopicConfig& config) {
  if (config.durability == Durability::volatile_) {
    if (config.visibility == Visibility::durable)
      return refuse(config,
                    "visibility durable needs durability async or sync: a volatile topic never becomes durable");
    return {};
  }
  if (config.claim_deadline_ns == 0) return refuse(config, "a claim deadline of none needs durability volatile");
  if (!config.checksum) return refuse(config, "checksum off needs durability volatile");
  if (config.overflow == Overflow::drop_oldest)
    return refuse(config, "overflow drop-oldest needs durability volatile: a durable topic drops by retention alone");
  return {};
}

Status check_grants(const TopicConfig& config, const std::vector<std::string>& grants) {
  for (const std::string& grant : grants) {
    const std::string_view text = grant;
    const bool known = text.starts_with("user:") || text.starts_with("group:");
    if (!known || text.ends_with(":") || text.find('\0') != text.npos)
      return refuse(config, "the permission \"" + grant + "\" is neither user:NAME nor group:NAME");
  }
  return {};
}

Status check_mirrors(const TopicConfig& config) {
  if (config.mirrors.empty()) return {};
  if (config.durability == Durability::volatile_)
    return refuse(config, "mirrors need durability async or sync: a volatile topic has no log files");
  if (config.mirrors.size() >= kMirrorCopiesMax)
    return refuse(config, std::to_string(config.mirrors.size()) + " mirrors; at most " +
                              std::to_string(kMirrorCopiesMax - 1) + " are possible");
  for (std::size_t i = 0; i < config.mirrors.size(); ++i) {
    const std::string& mirror = config.mirrors[i];
    if (mirror.size() > kTopicMirrorPathSizeMax || mirror.find_first_of(std::string_view("\n\0", 2)) != mirror.npos)
      return refuse(config, "the mirror " + mirror.substr(0, kTopicMirrorPathSizeMax) +
                                " must be one line of at most " + std::to_string(kTopicMirrorPathSizeMax) + " bytes");
    // One spelling of a directory, so that two that are the same are seen to be.
    if (!mirror.starts_with('/') || mirror == "/" ||
        std::filesystem::path(mirror + "/").lexically_normal().string() != mirror + "/")
      return refuse(config, "the mirror \"" + mirror +
                                "\" must be an absolute path without \".\", \"..\" and a slash at its end");
    for (std::size_t j = 0; j < i; ++j)
      if ((mirror + "/").starts_with(config.mirrors[j] + "/") || (config.mirrors[j] + "/").starts_with(mirror + "/"))
        return refuse(config, "the mirrors " + mirror + " and " + config.mirrors[j] + " lie in one another");
  }
  return {};
}

}  // namespace

Status check(const TopicConfig& config) {
  SLUICE_TRY(check_name(config));
  SLUICE_TRY(check_sizes(config));
  SLUICE_TRY(check_ttl(config));
  SLUICE_TRY(check_combinations(config));
  SLUICE_TRY(check_grants(config, config.publishers));
  SLUICE_TRY(check_grants(config, config.consumers));
  return check_mirrors(config);
}

TopicConfig complete(TopicRequest request, const TopicDefaults& defaults) {
  TopicConfig config = std::move(request.config);
  if (config.segment_size == 0) config.segment_size = defaults.segment_size;
  if (config.slots == 0) config.slots = defaults.slots;
  if (request.default_durability) config.durability = defaults.durability;
  if (request.default_retention_bytes) config.retention_bytes = defaults.retention_bytes;
  if (request.default_retention_time) config.retention_time_ns = defaults.retention_time_ns;
  if (request.default_claim_deadline) config.claim_deadline_ns = defaults.claim_deadline_ns;
  return config;
}

Result<TopicConfig> apply(const TopicConfig& config, const TopicChange& change) {
  TopicConfig changed = config;
  if (change.partitions) {
    if (*change.partitions < config.partitions)
      return fail(ErrorCode::invalid, "topic \"" + config.name + "\" has " + std::to_string(config.partitions) +
                                          " partitions; " + std::to_string(*change.partitions) +
                                          " would be fewer, and partitions are never taken away");
    changed.partitions = *change.partitions;
  }
  if (change.retention_bytes) changed.retention_bytes = *change.retention_bytes;
  if (change.retention_time_ns) changed.retention_time_ns = *change.retention_time_ns;
  if (change.message_ttl_ns) changed.message_ttl_ns = *change.message_ttl_ns;
  if (change.overflow) changed.overflow = *change.overflow;
  SLUICE_TRY(check(changed));
  return changed;
}

}  // namespace sluice::core
