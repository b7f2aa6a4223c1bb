#include "daemon/main/config.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <numeric>
#include <sstream>
#include <utility>
#include <vector>

#include <toml++/toml.h>

#include "daemon/main/config_resolvers.h"
#include "shm/base/units.h"

namespace sluice::daemon {
namespace {

// ---- the table of settings ----

struct Setting {
  std::string key;  // as in the file, with its section: "limits.sessions_max"
  std::string comment;
  // invalid says what is wrong with the value; the caller adds the place and the key.
  std::function<Status(const toml::node& value, Config& config)> read;
  // The value as TOML.
  std::function<std::string(Config config)> write;
};

template <typename T>
using Field = T& (*)(Config&);

std::string toml_text(const std::string& text) {
  std::ostringstream out;
  const toml::value<std::string> value(text);
  out << toml::toml_formatter(value, toml::format_flags::none);
  return out.str();
}

Status refuse(const std::string& why) { return fail(ErrorCode::invalid, why); }

Result<std::string> text_of(const toml::node& value) {
  if (const auto text = value.value_exact<std::string>()) return *text;
  return fail(ErrorCode::invalid, "must be a text in quotes");
}

using CheckText = Status (*)(const std::string&);

Setting text_setting(std::string key, std::string comment, Field<std::string> field, CheckText valid) {
  const auto read = [field, valid](const toml::node& value, Config& config) -> Status {
    SLUICE_ASSIGN(const std::string text, text_of(value));
    SLUICE_TRY(valid(text));
    field(config) = text;
    return {};
  };
  return {std::move(key), std::move(comment), read, [field](Config config) { return toml_text(field(config)); }};
}

Setting bool_setting(std::string key, std::string comment, Field<bool> field) {
  const auto read = [field](const toml::node& value, Config& config) -> Status {
    const auto flag = value.value_exact<bool>();
    if (!flag) return refuse("must be true or false");
    field(config) = *flag;
    return {};
  };
  return {std::move(key), std::move(comment), read,
          [field](Config config) { return std::string(field(config) ? "true" : "false"); }};
}

Setting count_setting(std::string key, std::string comment, Field<std::uint32_t> field, std::uint32_t min,
                      std::uint32_t max) {
  const auto read = [field, min, max](const toml::node& value, Config& config) -> Status {
    const auto number = value.value_exact<std::int64_t>();
    if (!number || *number < min || *number > max)
      return refuse("must be a whole number from " + std::to_string(min) + " to " + std::to_string(max));
    field(config) = static_cast<std::uint32_t>(*number);
    return {};
  };
  return {std::move(key), std::move(comment), read, [field](Config config) { return std::to_string(field(config)); }};
}

// A size or a duration: `zero` is the word that stands for 0 ("none", "auto"), or empty if 0 is not allowed.
struct Unit {
  Result<std::uint64_t> (*parse)(std::string_view);
  std::string (*format)(std::uint64_t);
};
constexpr Unit kSize{parse_size, format_size};
constexpr Unit kDuration{parse_duration, format_duration};

Setting unit_setting(std::string key, std::string comment, Field<std::uint64_t> field, Unit unit, std::string zero,
                     std::uint64_t min, std::uint64_t max) {
  const auto read = [=](const toml::node& value, Config& config) -> Status {
    SLUICE_ASSIGN(const std::string text, text_of(value));
    if (!zero.empty() && text == zero) {
      field(config) = 0;
      return {};
    }
    SLUICE_ASSIGN(const std::uint64_t number, unit.parse(text));
    if (number < min || number > max)
      return refuse("must be from " + unit.format(min) + " to " + unit.format(max) +
                    (zero.empty() ? "" : ", or \"" + zero + "\""));
    field(config) = number;
    return {};
  };
  const auto write = [=](Config config) {
    const std::uint64_t number = field(config);
    return toml_text(number == 0 && !zero.empty() ? zero : unit.format(number));
  };
  return {std::move(key), std::move(comment), read, write};
}

constexpr std::array<std::string_view, 3> kDurabilityNames = {"volatile", "async", "sync"};

Setting durability_setting(std::string key, std::string comment) {
  const auto read = [](const toml::node& value, Config& config) -> Status {
    SLUICE_ASSIGN(const std::string text, text_of(value));
    const auto found = std::find(kDurabilityNames.begin(), kDurabilityNames.end(), text);
    if (found == kDurabilityNames.end()) return refuse("must be \"volatile\", \"async\" or \"sync\"");
    config.topics.durability = static_cast<core::Durability>(found - kDurabilityNames.begin());
    return {};
  };
  const auto write = [](const Config& config) {
    return toml_text(std::string(kDurabilityNames[static_cast<std::size_t>(config.topics.durability)]));
  };
  return {std::move(key), std::move(comment), read, write};
}

Setting socket_mode_setting(std::string key, std::string comment) {
  const auto read = [](const toml::node& value, Config& config) -> Status {
    SLUICE_ASSIGN(const std::string text, text_of(value));
    std::uint32_t mode = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
    if (code != std::errc() || end != text.data() + text.size() || mode > 0777)
      return refuse("must be an octal mode like \"0660\"");
    config.socket_mode = mode;
    return {};
  };
  const auto write = [](const Config& config) {
    std::ostringstream out;
    out << '"' << '0' << std::oct << config.socket_mode << '"';
    return out.str();
  };
  return {std::move(key), std::move(comment), read, write};
}

Status any_text(const std::string&) { return {}; }

Status absolute_path(const std::string& path) {
  if (path.empty() || path.front() != '/') return refuse("must be an absolute path");
  return {};
}

Status socket_path(const std::string& path) {
  SLUICE_TRY(absolute_path(path));
  if (path.size() > kSocketPathSizeMax)
    return refuse("has " + std::to_string(path.size()) + " bytes; a socket's path may have " +
                  std::to_string(kSocketPathSizeMax) + ": choose a shorter one");
  return {};
}

Status http_address(const std::string& text) {
  if (text == "off") return {};
  if (text.starts_with("unix:")) return socket_path(text.substr(5));
  const auto colon = text.rfind(':');
  std::uint16_t port = 0;
  const char* const end = text.data() + text.size();
  if (colon != std::string::npos && colon > 0) {
    const auto [stop, code] = std::from_chars(text.data() + colon + 1, end, port);
    if (code == std::errc() && stop == end && port != 0) return {};
  }
  return refuse("must be \"off\", \"HOST:PORT\" or \"unix:PATH\"");
}

constexpr std::array<std::string_view, 5> kLogLevels = {"trace", "debug", "info", "warn", "error"};

Status log_level(const std::string& text) {
  if (std::find(kLogLevels.begin(), kLogLevels.end(), text) != kLogLevels.end()) return {};
  return refuse("must be trace, debug, info, warn or error");
}

Setting directories_setting(std::string key, std::string comment, Field<std::vector<std::string>> field) {
  const auto read = [field](const toml::node& value, Config& config) -> Status {
    const toml::array* const array = value.as_array();
    if (array == nullptr) return refuse("must be a list of directories: [\"/mnt/b/sluice\"]");
    std::vector<std::string> directories;
    for (const toml::node& entry : *array) {
      SLUICE_ASSIGN(std::string directory, text_of(entry));
      SLUICE_TRY(absolute_path(directory));
      directories.push_back(std::move(directory));
    }
    field(config) = std::move(directories);
    return {};
  };
  const auto write = [field](Config config) {
    std::string out;
    for (const std::string& directory : field(config)) out += (out.empty() ? "" : ", ") + toml_text(directory);
    return "[" + out + "]";
  };
  return {std::move(key), std::move(comment), read, write};
}

Setting resolvers_setting(std::string key, std::string comment) {
  const auto read = [](const toml::node& value, Config& config) -> Status {
    SLUICE_ASSIGN(config.transactions.resolvers, read_resolvers(value));
    return {};
  };
  return {std::move(key), std::move(comment), read,
          [](const Config& config) { return resolvers_to_toml(config.transactions.resolvers); }};
}

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kDayNs = 86'400 * kSecondNs;
constexpr std::uint64_t kSizeMax = std::uint64_t{1} << 60;  // 1 EiB
constexpr std::uint64_t kTimeMaxNs = 36'500 * kDayNs;

const std::vector<Setting>& settings() {
  static const std::vector<Setting> table = {
      text_setting(
          "data_dir", "Logs and metadata. One daemon at a time.", [](Config& c) -> std::string& { return c.data_dir; },
          absolute_path),
      directories_setting(
          "mirrors",
          "Directories on other disks that hold the same as data_dir, at most 3. A message is durable when it is\n"
          "on all of them; a copy whose disk fails is left behind, and filled again when it is back.",
          [](Config& c) -> std::vector<std::string>& { return c.mirrors; }),
      directories_setting(
          "mirror_roots",
          "Where clients may have a topic's log files kept too (sluice topic create --mirror): in these directories.\n"
          "Only the daemon's user should be able to write there.",
          [](Config& c) -> std::vector<std::string>& { return c.mirror_roots; }),
      unit_setting(
          "mirror_retry", "How long after a try to fill a stale copy the next one comes.",
          [](Config& c) -> std::uint64_t& { return c.mirror_retry_ns; }, kDuration, "", kSecondNs / 10, kDayNs),
      unit_setting(
          "mirror_scrub",
          "How often a segment of what was written long ago is compared between the copies, and mended.",
          [](Config& c) -> std::uint64_t& { return c.mirror_scrub_ns; }, kDuration, "off", kSecondNs / 1000, kDayNs),
      text_setting(
          "socket", "Where clients connect (a Unix socket).", [](Config& c) -> std::string& { return c.socket; },
          socket_path),
      text_setting(
          "socket_group", "The socket's group, whose members may connect; \"\" is the daemon's own group.",
          [](Config& c) -> std::string& { return c.socket_group; }, any_text),
      socket_mode_setting("socket_mode", "The socket's permissions."),
      text_setting(
          "http", "Metrics over HTTP: \"off\", \"HOST:PORT\" or \"unix:PATH\". This version has \"off\" alone.",
          [](Config& c) -> std::string& { return c.http; }, http_address),
      text_setting(
          "log_level", "trace, debug, info, warn or error.", [](Config& c) -> std::string& { return c.log_level; },
          log_level),
      bool_setting("keeper",
                   "Keep the bus's memory in a small parent process while the daemon restarts. Not needed, and not\n"
                   "started, where systemd's file-descriptor store does it.",
                   [](Config& c) -> bool& { return c.keeper; }),
      unit_setting(
          "memory_budget",
          "Memory for the segments of all topics. \"auto\": a quarter of the machine's, at most half of the\n"
          "memory cgroup's limit.",
          [](Config& c) -> std::uint64_t& { return c.memory_budget; }, kSize, "auto", kMemoryBudgetMin, kSizeMax),

      durability_setting("topics.durability", "Of a topic that is created without saying: volatile, async or sync."),
      unit_setting(
          "topics.segment_size", "The piece of a log that is in memory as a whole: a power of two.",
          [](Config& c) -> std::uint64_t& { return c.topics.segment_size; }, kSize, "", kSegmentSizeMin,
          kSegmentSizeMax),
      count_setting(
          "topics.slots", "Segments of a partition in memory.",
          [](Config& c) -> std::uint32_t& { return c.topics.slots; }, kSlotsMin, kSlotsMax),
      count_setting(
          "topics.segments_per_file", "Segments in a log file.",
          [](Config& c) -> std::uint32_t& { return c.topics.segments_per_file; }, 1, 4096),
      unit_setting(
          "topics.flush_interval", "An async topic's messages are on stable storage after this at the latest.",
          [](Config& c) -> std::uint64_t& { return c.topics.flush_interval_ns; }, kDuration, "", 100'000,
          60 * kSecondNs),
      unit_setting(
          "topics.claim_deadline",
          "A message that a producer has begun and not finished in this time is taken back, so that it does\n"
          "not hold up those behind it.",
          [](Config& c) -> std::uint64_t& { return c.topics.claim_deadline_ns; }, kDuration, "", 1'000'000,
          3600 * kSecondNs),

      unit_setting(
          "retention.bytes", "Of a topic that is created without saying: log bytes kept per partition.",
          [](Config& c) -> std::uint64_t& { return c.retention.bytes; }, kSize, "none", kSegmentSizeMin, kSizeMax),
      unit_setting(
          "retention.time", "Of a topic that is created without saying: how long messages are kept.",
          [](Config& c) -> std::uint64_t& { return c.retention.time_ns; }, kDuration, "none", kSecondNs, kTimeMaxNs),
      unit_setting(
          "retention.check_interval", "How often the daemon looks for what is due.",
          [](Config& c) -> std::uint64_t& { return c.retention.check_interval_ns; }, kDuration, "", 10'000'000, kDayNs),

      unit_setting(
          "transactions.timeout", "A transaction that is open so long is asked about, though its producer lives.",
          [](Config& c) -> std::uint64_t& { return c.transactions.timeout_ns; }, kDuration, "", 100'000'000, kDayNs),
      count_setting(
          "transactions.check_max", "Answers \"unknown\" until a transaction is parked, for an operator to decide.",
          [](Config& c) -> std::uint32_t& { return c.transactions.check_max; }, 1, 1000),
      unit_setting(
          "transactions.park_after", "So long with nobody to ask, and a transaction is parked.",
          [](Config& c) -> std::uint64_t& { return c.transactions.park_after_ns; }, kDuration, "", kSecondNs,
          kTimeMaxNs),
      resolvers_setting(
          "transactions.resolver",
          "Commands that are asked what became of transactions where no producer of their group lives: each a table\n"
          "[[transactions.resolver]] with group, command (a list: an absolute path and arguments) and timeout "
          "(\"10s\").\n"
          "See RESOLVERS in sluiced.toml(5)."),

      count_setting(
          "limits.sessions_max", "Clients attached at a time.",
          [](Config& c) -> std::uint32_t& { return c.limits.sessions_max; }, 1, kSessionsMax),
      count_setting(
          "limits.partitions_max", "Partitions of all topics together.",
          [](Config& c) -> std::uint32_t& { return c.limits.partitions_max; }, 1, kPartitionsMax),
  };
  return table;
}

// ---- unknown keys ----

// Levenshtein's distance, two rows at a time.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

std::string_view last_part(std::string_view key) {
  const auto dot = key.rfind('.');
  return dot == key.npos ? key : key.substr(dot + 1);
}

// The known key that is nearest: by its last part first, so that a key in the wrong section is found too.
const Setting& nearest(std::string_view key) {
  return *std::min_element(settings().begin(), settings().end(), [&](const Setting& a, const Setting& b) {
    const auto rank = [&](const Setting& s) {
      return std::pair(edit_distance(last_part(key), last_part(s.key)), edit_distance(key, s.key));
    };
    return rank(a) < rank(b);
  });
}

std::string place(const std::string& file, const toml::source_region& region) {
  return file + ":" + std::to_string(region.begin.line) + ": ";
}

bool is_section(std::string_view key) {
  return std::any_of(settings().begin(), settings().end(),
                     [&](const Setting& s) { return s.key.starts_with(std::string(key) + "."); });
}

Status read_table(const toml::table& table, const std::string& prefix, const std::string& file, Config& config) {
  for (const auto& [name, value] : table) {
    const std::string key = prefix + std::string(name.str());
    if (is_section(key) && value.is_table()) {
      SLUICE_TRY(read_table(*value.as_table(), key + ".", file, config));
      continue;
    }
    const auto setting =
        std::find_if(settings().begin(), settings().end(), [&](const Setting& s) { return s.key == key; });
    if (setting == settings().end())
      return refuse(place(file, name.source()) + "unknown key \"" + key + "\"; the nearest known one is \"" +
                    nearest(key).key + "\"");
    if (Status read = setting->read(value, config); !read)
      return refuse(place(file, value.source()) + key + " " + read.error().context());
  }
  return {};
}

// ---- the machine's memory ----

// A cgroup's limit, or the largest number if it has none.
std::uint64_t limit_in(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::uint64_t limit = 0;
  return in >> limit ? limit : std::numeric_limits<std::uint64_t>::max();
}

std::uint64_t cgroup_limit() {
  std::uint64_t limit = std::numeric_limits<std::uint64_t>::max();
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("0::/")) continue;
    const std::filesystem::path root = "/sys/fs/cgroup";
    // The tightest one from here up to the root holds.
    for (std::filesystem::path group = line.substr(4);; group = group.parent_path()) {
      limit = std::min(limit, limit_in(root / group / "memory.max"));
      if (group.empty()) break;
    }
  }
  return limit;
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::string commented(std::string_view text) {
  std::string out = "# ";
  for (const char c : text) {
    out += c;
    if (c == '\n') out += "# ";
  }
  return out + "\n";
}

}  // namespace

Environment Environment::of_process() {
  std::error_code ignored;
  return {::geteuid(), variable("HOME"), variable("XDG_RUNTIME_DIR"), variable("XDG_STATE_HOME"),
          std::filesystem::current_path(ignored).string()};
}

Config default_config(const Environment& environment) {
  Config config;
  if (environment.uid == 0) {
    config.data_dir = "/var/lib/sluice";
    config.socket = "/run/sluice/sluice.sock";
    return config;
  }
  const std::string home = environment.home.empty() ? "/" : environment.home;
  const std::string state = environment.xdg_state_home.empty() ? home + "/.local/state" : environment.xdg_state_home;
  const std::string runtime = environment.xdg_runtime_dir.empty() ? "/run/user/" + std::to_string(environment.uid)
                                                                  : environment.xdg_runtime_dir;
  config.data_dir = state + "/sluice";
  config.socket = runtime + "/sluice/sluice.sock";
  return config;
}

Result<Config> parse_config(std::string_view text, const std::string& file, Config config) {
  toml::table table;
  try {
    table = toml::parse(text, file);
  } catch (const toml::parse_error& error) {
    return fail(ErrorCode::invalid, place(file, error.source()) + std::string(error.description()));
  }
  SLUICE_TRY(read_table(table, "", file, config));
  if (Status valid = check(config); !valid) return fail(ErrorCode::invalid, file + ": " + valid.error().context());
  config.file = file;
  return config;
}

Result<Config> read_config(const std::string& file, Config config) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return fail(system_error(errno, "reading the configuration " + file));
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (in.bad()) return fail(system_error(errno, "reading the configuration " + file));
  return parse_config(text, file, std::move(config));
}

namespace {

// One lies in the other, or is it.
bool overlap(const std::string& a, const std::string& b) {
  const auto inside = [](std::string inner, std::string outer) {
    for (std::string* path : {&inner, &outer}) *path = std::filesystem::path(*path + "/").lexically_normal().string();
    return inner.starts_with(outer);
  };
  return inside(a, b) || inside(b, a);
}

Status check_mirrors(const Config& config) {
  if (config.mirrors.size() >= kMirrorCopiesMax)
    return refuse("mirrors names " + std::to_string(config.mirrors.size()) + " directories; at most " +
                  std::to_string(kMirrorCopiesMax - 1) + " are possible");
  std::vector<std::string> roots = {config.data_dir};
  for (const std::string& mirror : config.mirrors) {
    if (mirror.size() > kMirrorPathSizeMax || mirror.find('\n') != std::string::npos)
      return refuse("mirrors: " + mirror + " must be one line of at most " + std::to_string(kMirrorPathSizeMax) +
                    " bytes");
    for (const std::string& other : roots)
      if (overlap(mirror, other))
        return refuse("mirrors: " + mirror + " and " + other +
                      " lie in one another: a mirror is a directory of its own, on another disk");
    roots.push_back(mirror);
  }
  return {};
}

}  // namespace

Status check(const Config& config) {
  // Known, so that the contract of the command line holds, but refused rather than quietly ignored.
  if (config.http != "off") return refuse("http: this version has no HTTP endpoint; it can only be \"off\"");
  SLUICE_TRY(check_mirrors(config));
  core::TopicConfig topic;
  topic.name = "defaults";
  topic.durability = config.topics.durability;
  topic.segment_size = config.topics.segment_size;
  topic.slots = config.topics.slots;
  topic.claim_deadline_ns = config.topics.claim_deadline_ns;
  if (Status valid = core::check(topic); !valid) return refuse("[topics]: " + valid.error().context());
  // A topic of one partition must fit, or nothing would work.
  const std::uint64_t smallest = config.topics.segment_size * kSlotsMin;
  if (config.memory_budget != 0 && config.memory_budget < smallest)
    return refuse("memory_budget is " + format_size(config.memory_budget) + ", but a single partition needs " +
                  std::to_string(kSlotsMin) + " segments of topics.segment_size, " + format_size(smallest) +
                  ": raise the one or lower the other");
  return {};
}

std::string to_toml(const Config& config, TomlStyle style) {
  const bool example = style == TomlStyle::example;
  std::string out = example ? "# sluiced's settings: every one there is, with its default. See sluiced.toml(5).\n"
                              "# Durations are written 250ms 5s 2m 1h 3d, sizes 64KiB 16MiB 1GiB.\n"
                            : "# The effective configuration of sluiced. See sluiced.toml(5).\n";
  std::string section;
  for (const Setting& setting : settings()) {
    const auto dot = setting.key.find('.');
    const std::string in = dot == std::string::npos ? "" : setting.key.substr(0, dot);
    if (in != section) out += "\n[" + in + "]";
    section = in;
    out += "\n" + commented(setting.comment);
    out += (example ? "#" : "") + std::string(last_part(setting.key)) + " = " + setting.write(config) + "\n";
  }
  return out;
}

std::uint64_t memory_budget_bytes(const Config& config) {
  if (config.memory_budget != 0) return config.memory_budget;
  const auto pages = static_cast<std::uint64_t>(std::max(::sysconf(_SC_PHYS_PAGES), 0L));
  const auto page_size = static_cast<std::uint64_t>(std::max(::sysconf(_SC_PAGESIZE), 0L));
  return std::max(kMemoryBudgetMin, std::min(pages * page_size / 4, cgroup_limit() / 2));
}

Status set(Config& config, std::string_view key, const std::string& value) {
  const auto setting =
      std::find_if(settings().begin(), settings().end(), [&](const Setting& s) { return s.key == key; });
  return setting->read(toml::value<std::string>(value), config);
}

}  // namespace sluice::daemon
