// 10,000 mutated log directories: flipped bits, cut and zeroed ranges, swapped, stale, doubled and garbage files, with
// and without their indexes. For each one, recovery
//   ends, with an answer or an error;
//   shows and serves only records as they were written;
//   keeps every intact record below the durable bound that the files' own headers name;
//   removes or changes no file in which nothing of ours can be recognised;
//   and finds the same again when it runs once more.
//
// Replay: SLUICE_SEED=N fuzz_log_mutation_test. More: SLUICE_FUZZ_RUNS=N (default 10,000), from SLUICE_SEED on if both
// are given.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "daemon/io/sim_disk.h"
#include "daemon/log/log_file.h"
#include "daemon/log/partition_log.h"
#include "shm/base/assert.h"
#include "shm/layout/segment.h"
#include "tests/daemon/log/log_rig.h"

namespace sluice::log {
namespace {

constexpr std::uint64_t kRuns = 10'000;

using Directory = std::map<std::string, std::vector<std::byte>>;  // by file name

LogOptions small_options() {
  LogOptions options = rig_options("/p");
  options.segment_size = 8192;
  options.segments_per_file = 3;
  return options;
}

// A log of several lives, as it stood at some moments: each a directory that a crash could have left.
struct Image {
  std::vector<Directory> moments;
  std::map<Position, RigRecord> records;
};

Directory copy_directory(io::Disk& disk, const std::string& path) {
  Directory directory;
  for (const std::string& name : list_files(disk, path)) directory[name] = read_file(disk, path + "/" + name);
  return directory;
}

Image make_image(std::uint64_t seed, bool checksums) {
  Image image;
  io::SimDisk disk({.seed = seed});
  LogOptions options = small_options();
  options.checksums = checksums;
  std::mt19937_64 random(seed);
  for (std::uint64_t life = 1; life <= 3; ++life) {
    Opened opened = open_log(disk, options);
    LogWriter writer(disk, *opened.log, options, life, life == 1 ? Position(0) : next_start(opened.report, options));
    for (int step = 0; step < 8; ++step) {
      const std::uint64_t bytes = 1 + random() % 6000;
      writer.append_some(bytes, random());
      EXPECT_TRUE(writer.sync());
      if (step % 3 == 2) image.moments.push_back(copy_directory(disk, options.directory));
    }
    for (const RigRecord& record : writer.records()) image.records[record.position] = record;
    if (life == 2) {
      EXPECT_TRUE(opened.log->close());
      image.moments.push_back(copy_directory(disk, options.directory));
    }
  }
  return image;
}

class Mutator {
 public:
  Mutator(const Image& image, std::uint64_t seed) : image_(image), random_(seed) {}

  Directory run() {
    directory_ = image_.moments[below(image_.moments.size())];
    if (below(2) == 0)
      std::erase_if(directory_, [&](const auto& file) { return file.first.ends_with(".idx") && coin(); });
    const std::uint64_t mutations = 1 + below(4);
    for (std::uint64_t i = 0; i < mutations; ++i) mutate();
    return std::move(directory_);
  }

 private:
  std::uint64_t below(std::uint64_t limit) { return limit == 0 ? 0 : random_() % limit; }
  bool coin() { return below(2) == 0; }
  std::vector<std::byte>& any_file() {
    return std::next(directory_.begin(), static_cast<std::ptrdiff_t>(below(directory_.size())))->second;
  }
  // Where something is likely to matter: at a header, or anywhere.
  std::uint64_t place(const std::vector<std::byte>& bytes) {
    const std::uint64_t at = below(bytes.size());
    switch (below(4)) {
      case 0: return at / 8192 * 8192 + below(64);
      case 1: return at / 64 * 64 + below(32);
      default: return at;
    }
  }

  void mutate() {
    if (directory_.empty()) return;
    std::vector<std::byte>& bytes = any_file();
    if (bytes.empty()) return;
    const auto clip = [&](std::uint64_t at) { return std::min<std::uint64_t>(at, bytes.size() - 1); };
    const std::uint64_t from = clip(place(bytes));
    const std::uint64_t longest = below(3) == 0 ? 9000 : 600;
    const std::uint64_t to = std::min<std::uint64_t>(from + 1 + below(longest), bytes.size());
    const auto range = std::span(bytes).subspan(from, to - from);
    switch (below(10)) {
      case 0:
      case 1:
      case 2: bytes[from] ^= static_cast<std::byte>(1u << below(8)); break;
      case 3: std::fill(range.begin(), range.end(), std::byte{0}); break;
      case 4:
        for (std::byte& byte : range) byte = static_cast<std::byte>(random_());
        break;
      case 5: bytes.resize(coin() ? from : from / 4096 * 4096); break;
      case 6: std::swap(bytes, any_file()); break;
      case 7: replace_by_stale(); break;
      case 8: move_bytes(bytes, range); break;
      default: add_or_remove(bytes); break;
    }
  }
  void replace_by_stale() {
    const Directory& older = image_.moments[below(image_.moments.size())];
    const auto file = std::next(older.begin(), static_cast<std::ptrdiff_t>(below(older.size())));
    directory_[file->first] = file->second;
  }
  // A whole run of bytes lands somewhere else, as a confused disk does it.
  void move_bytes(std::vector<std::byte>& bytes, std::span<std::byte> range) {
    const std::vector<std::byte> copy(range.begin(), range.end());
    const std::uint64_t to = below(bytes.size() - copy.size() + 1) / 64 * 64;
    std::copy(copy.begin(), copy.end(), bytes.begin() + static_cast<std::ptrdiff_t>(to));
  }
  void add_or_remove(const std::vector<std::byte>& bytes) {
    const std::string name = log_path("", Position(below(40) * 8192)).substr(1);
    switch (below(5)) {
      case 0:
        directory_.erase(std::next(directory_.begin(), static_cast<std::ptrdiff_t>(below(directory_.size()))));
        break;
      case 1: directory_[name] = bytes; break;
      case 2: {
        const std::uint64_t size = below(30000);
        directory_[name] = std::vector<std::byte>(size, static_cast<std::byte>(below(256)));
        break;
      }
      case 3: directory_[name + ".tmp"] = {}; break;
      default: directory_["something.else"] = bytes; break;
    }
  }

  const Image& image_;
  std::mt19937_64 random_;
  Directory directory_;
};

// What a mutated directory itself says, told by code of its own.
struct Truth {
  std::set<std::string> unrecognised;  // log files without any header of ours, though not of zeros alone
  Position bound;                      // the highest durable position in a header of ours
  std::set<Position> intact;           // records that lie in their place as written, below the bound
};

Truth look_at(const Directory& directory, const Image& image, const LogOptions& options) {
  Truth truth;
  std::vector<std::pair<Position, const std::vector<std::byte>*>> segments;  // whose header holds
  for (const auto& [name, bytes] : directory) {
    const ParsedName parsed = parse_name(name, options.segment_size);
    if (parsed.kind != NameKind::log) continue;
    bool ours = directory.contains(name.substr(0, 20) + ".idx");  // may name segments of it: not judged here
    for (std::uint64_t at = 0; at < options.segment_size * options.segments_per_file && at + 64 <= bytes.size();
         at += options.segment_size) {
      layout::SegmentHeader header;
      const Position start = parsed.base + at;
      const auto check = layout::read_segment_header(bytes.data() + at, options.topic, options.partition,
                                                     SegmentNumber(start.value / options.segment_size), header);
      if (check != layout::SegmentCheck::ok) continue;
      ours = true;
      truth.bound = std::max(truth.bound, Position(header.durable_position));
      segments.emplace_back(start, &bytes);
    }
    const bool zeros = std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
    if (!ours && !zeros) truth.unrecognised.insert(name);
  }
  for (const auto& [name, bytes] : directory) {
    const ParsedName parsed = parse_name(name, options.segment_size);
    if (parsed.kind != NameKind::log) continue;
    for (const auto& [position, record] : image.records) {
      if (position < parsed.base) continue;
      const std::uint64_t at = position - parsed.base;
      if (at + record.claim.span_size() > bytes.size() || at >= options.segment_size * options.segments_per_file)
        continue;
      const Position segment(position.value / options.segment_size * options.segment_size);
      const bool header_holds = std::any_of(segments.begin(), segments.end(), [&](const auto& entry) {
        return entry.first == segment && entry.second == &bytes;
      });
      layout::RecordFields fields;
      std::vector<std::uint64_t> aligned(record.claim.span_size() / 8);
      std::memcpy(aligned.data(), bytes.data() + at, record.claim.span_size());
      const auto* copy = reinterpret_cast<const std::byte*>(aligned.data());
      if (!header_holds || layout::read_header(copy, options.segment_size, fields) != layout::HeaderCheck::record)
        continue;
      layout::SegmentHeader header;
      static_cast<void>(layout::read_segment_header(bytes.data() + (segment - parsed.base), header));
      const std::uint32_t trailer = layout::trailer_size(copy, fields);
      if (fields.claim == record.claim && trailer != layout::kTrailerSizeInvalid &&
          layout::checksum_matches(copy, fields, trailer, position, header.checksum) &&
          position + record.claim.span_size() <= truth.bound)
        truth.intact.insert(position);
    }
  }
  return truth;
}

class MutationRun {
 public:
  MutationRun(const Image& image, std::uint64_t seed)
      : image_(image), seed_(seed), disk_({.seed = seed}), mutated_(Mutator(image, seed).run()) {}

  void run() {
    EXPECT_TRUE(disk_.make_directories(options_.directory));
    for (const auto& [name, bytes] : mutated_) write_file(disk_, options_.directory + "/" + name, bytes);
    truth_ = look_at(mutated_, image_, options_);
    RecoveryReport first;
    if (!open_once(first)) {
      EXPECT_EQ(difference(mutated_, copy_directory(disk_, options_.directory)), "") << "although it was refused";
      return;
    }
    check_files();
    const Directory after = copy_directory(disk_, options_.directory);
    RecoveryReport second;
    EXPECT_TRUE(open_once(second));
    EXPECT_EQ(second.end, first.end);
    EXPECT_EQ(second.torn_bytes, 0u);
    EXPECT_EQ(text_of(second), text_of(first));
    EXPECT_EQ(difference(after, copy_directory(disk_, options_.directory)), "");
  }

  // What the directory held before the recovery, and what the recovery said of it: to start from when a seed fails.
  std::string describe() {
    std::string text;
    SLUICE_ASSERT(disk_.make_directories(options_.directory));
    for (const auto& [name, bytes] : mutated_) {
      text += name + ' ' + std::to_string(bytes.size()) + '\n';
      write_file(disk_, options_.directory + "/" + name, bytes);
    }
    const Opened opened = open_log(disk_, options_);
    text += "end " + std::to_string(opened.report.end.value) + ", torn bytes " +
            std::to_string(opened.report.torn_bytes) + ", damaged:\n" + text_of(opened.report) + "left:\n";
    for (const std::string& name : list_files(disk_, options_.directory)) text += name + '\n';
    return text;
  }

 private:
  bool open_once(RecoveryReport& report) {
    std::set<Position> visited;
    auto log = PartitionLog::open(
        disk_, options_, Position(),
        [&](Position position, const layout::RecordFields& fields, std::span<const std::byte> trailer) {
          EXPECT_TRUE(visited.empty() || *visited.rbegin() < position) << "out of order at " << position.value;
          visited.insert(position);
          const RigRecord* record = find(position);
          ASSERT_NE(record, nullptr) << "visited what was never written at " << position.value;
          EXPECT_EQ(fields.claim, record->claim);
          EXPECT_EQ(fields.sequence.value, record->sequence);
          EXPECT_TRUE(std::equal(trailer.begin(), trailer.end(), std::as_bytes(std::span(record->trailer)).begin(),
                                 std::as_bytes(std::span(record->trailer)).end()));
        },
        report);
    if (!log) return false;
    check_served(**log, visited);
    EXPECT_GE(report.end, truth_.bound);
    EXPECT_GE(report.used_end, report.end);
    return true;
  }

  static std::string text_of(const RecoveryReport& report) {
    std::string text;
    for (const DamagedRange& d : report.damaged)
      text += std::to_string(d.begin.value) + " to " + std::to_string(d.end.value) + ": " + d.reason + '\n';
    return text;
  }
  // The first file that differs, for the message.
  static std::string difference(const Directory& before, const Directory& after) {
    for (const auto& [name, bytes] : before) {
      const auto found = after.find(name);
      if (found == after.end()) return name + " is gone";
      if (found->second != bytes)
        return name + " differs: " + std::to_string(bytes.size()) + " and " + std::to_string(found->second.size()) +
               " bytes";
    }
    for (const auto& [name, bytes] : after)
      if (!before.contains(name)) return name + " is new";
    return {};
  }

  const RigRecord* find(Position position) const {
    const auto found = image_.records.find(position);
    return found == image_.records.end() ? nullptr : &found->second;
  }

  void check_served(PartitionLog& log, const std::set<Position>& visited) {
    const Served served = serve(log, options_, Position(0));
    EXPECT_EQ(served.damage, std::vector<std::string>());
    std::set<Position> positions;
    for (const RigRecord& record : served.records) {
      const RigRecord* written = find(record.position);
      EXPECT_TRUE(written != nullptr && *written == record) << "served other bytes at " << record.position.value;
      positions.insert(record.position);
    }
    EXPECT_EQ(positions, visited);
    for (const Position position : truth_.intact)
      ASSERT_TRUE(positions.contains(position)) << "intact below the bound, and not served: " << position.value;
  }

  void check_files() {
    for (const std::string& name : truth_.unrecognised) {
      const std::string path = options_.directory + "/" + name;
      const std::string kept = exists(disk_, path) ? path : path + ".torn";
      ASSERT_TRUE(exists(disk_, kept)) << name << " is gone, though nothing in it could be recognised";
      EXPECT_TRUE(read_file(disk_, kept) == mutated_.at(name)) << name << " was changed";
    }
    if (mutated_.contains("something.else")) {
      EXPECT_TRUE(read_file(disk_, options_.directory + "/something.else") == mutated_.at("something.else"));
    }
  }

  const Image& image_;
  const std::uint64_t seed_;
  const LogOptions options_ = small_options();
  io::SimDisk disk_;
  const Directory mutated_;
  Truth truth_;
};

TEST(LogMutation, RecoveryServesNothingThatDoesNotHoldAndLosesNothingItCannotRead) {
  const char* replay = std::getenv("SLUICE_SEED");
  const char* more = std::getenv("SLUICE_FUZZ_RUNS");
  const std::uint64_t first = replay != nullptr ? std::strtoull(replay, nullptr, 10) : 1;
  const std::uint64_t runs = more != nullptr ? std::strtoull(more, nullptr, 10) : replay != nullptr ? 1 : kRuns;
  std::map<std::uint64_t, Image> images;  // four for each kRuns seeds
  for (std::uint64_t seed = first; seed < first + runs; ++seed) {
    const std::uint64_t number = 1 + seed / kRuns * 4 + seed % 4;
    if (!images.contains(number)) images[number] = make_image(number, true);
    MutationRun(images[number], seed).run();
    if (HasFailure()) std::printf("%s", MutationRun(images[number], seed).describe().c_str());
    ASSERT_FALSE(HasFailure()) << "replay: SLUICE_SEED=" << seed << " fuzz_log_mutation_test";
  }
}

}  // namespace
}  // namespace sluice::log
