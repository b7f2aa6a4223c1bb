// Every setting of the daemon: its default, its place in the configuration file, its flag.
//
// A setting is written down once, as a line of the table in config.cc: reading the file, refusing unknown keys,
// printing the effective configuration and the example file (systemd/sluiced.toml) all follow from it.
//
// Thread safety: values and pure functions, but for Environment::of_process() and memory_budget_bytes(), which read the
// process and the system.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/core/resolver.h"
#include "daemon/core/topic.h"
#include "shm/base/limits.h"
#include "shm/base/result.h"

namespace sluice::daemon {

// What a topic gets that is created without saying.
struct TopicDefaults {
  core::Durability durability = core::Durability::async;
  std::uint64_t segment_size = kSegmentSizeDefault;  // bytes
  std::uint32_t slots = kSlotsDefault;
  std::uint32_t segments_per_file = kSegmentsPerFileDefault;  // of every topic's log files
  std::uint64_t flush_interval_ns = kFlushIntervalNsDefault;  // of every async topic
  std::uint64_t claim_deadline_ns = kClaimDeadlineNsDefault;
};

struct RetentionDefaults {
  std::uint64_t bytes = 0;    // per partition; 0: no limit
  std::uint64_t time_ns = 0;  // 0: no limit
  std::uint64_t check_interval_ns = 10'000'000'000;
};

struct TransactionSettings {
  std::uint64_t timeout_ns = 6'000'000'000;           // until a producer that lives is asked what became of one
  std::uint32_t check_max = 15;                       // "unknown" answers, then it waits for an operator
  std::uint64_t park_after_ns = 259'200'000'000'000;  // with nobody to ask
  std::vector<core::ResolverConfig> resolvers;        // one of a group, at most kResolversMax
};

struct Limits {
  std::uint32_t sessions_max = kSessionsMax;
  std::uint32_t partitions_max = kPartitionsMax;
};

struct Config {
  std::string data_dir;                   // absolute
  std::vector<std::string> mirrors;       // absolute, at most kMirrorCopiesMax − 1: further copies of data_dir
  std::vector<std::string> mirror_roots;  // absolute: where topics may have mirrors of their own; empty: nowhere
  std::uint64_t mirror_retry_ns = 30'000'000'000;  // from one try to fill a stale copy to the next
  std::uint64_t mirror_scrub_ns = 1'000'000'000;   // from one segment that is compared to the next; 0: none is
  std::vector<std::string> accept_missing;  // members of the mirrors that may be missing at this start; flag alone
  std::string socket;                       // absolute, at most kSocketPathSizeMax bytes
  std::string socket_group;                 // name or number; empty: the daemon's own
  std::uint32_t socket_mode = 0660;
  std::string http = "off";        // off | HOST:PORT | unix:PATH
  std::string log_level = "info";  // trace | debug | info | warn | error
  bool keeper = true;
  std::uint64_t memory_budget = 0;  // bytes; 0: auto, see memory_budget_bytes()
  TopicDefaults topics;
  RetentionDefaults retention;
  TransactionSettings transactions;
  Limits limits;

  std::string file;  // the configuration file it was read from; empty: none
};

inline constexpr std::size_t kSocketPathSizeMax = 107;
inline constexpr std::uint64_t kMemoryBudgetMin = 16 * 1024 * 1024;

// What defaults depend on.
struct Environment {
  std::uint32_t uid = 0;
  std::string home;
  std::string xdg_runtime_dir;  // empty: not set
  std::string xdg_state_home;   // empty: not set
  std::string working_directory;
  static Environment of_process();
};

// Every default. For root /var/lib/sluice and /run/sluice/sluice.sock, for others below XDG_STATE_HOME and
// XDG_RUNTIME_DIR.
Config default_config(const Environment& environment);

// `config` with the settings of a TOML text in it. `file` is for messages. invalid, with "file:line: what is wrong".
Result<Config> parse_config(std::string_view toml, const std::string& file, Config config);
// As above, from a file; not_found, permission or io too.
Result<Config> read_config(const std::string& file, Config config);
// invalid if settings do not fit together. parse_config() has checked already.
Status check(const Config& config);

enum class TomlStyle : std::uint8_t {
  effective,  // each setting as it is; parse_config() reads it back
  example,    // each setting as a comment, to be uncommented
};
std::string to_toml(const Config& config, TomlStyle style = TomlStyle::effective);

// The budget in bytes: as configured, else a quarter of the machine's memory, at most half of the memory cgroup's
// limit.
std::uint64_t memory_budget_bytes(const Config& config);

// One setting, as text. invalid: what is wrong with it. `key` is one of a setting.
Status set(Config& config, std::string_view key, const std::string& value);

}  // namespace sluice::daemon
