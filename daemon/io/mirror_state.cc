#include "daemon/io/mirror_state.h"

#include <algorithm>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <span>
#include <string_view>

#include "shm/base/assert.h"
#include "shm/base/checksum.h"

namespace sluice::io {
namespace {

constexpr std::string_view kTitle = "sluice mirror state ";
constexpr std::uint64_t kVersion = 1;
constexpr std::size_t kSlots = 2;

using Slot = std::vector<std::byte>;

std::string hex(std::uint64_t number) {
  char text[17] = {};
  std::snprintf(text, sizeof text, "%016" PRIx64, number);
  return text;
}

Slot slot_of(const MirrorState& state) {
  std::string text(kTitle);
  text += std::to_string(kVersion) + "\nset " + hex(state.set) + "\ngeneration " + std::to_string(state.generation) +
          "\nself " + hex(state.self) + "\n";
  for (const MirrorMember& member : state.members)
    text += "member " + hex(member.id) + (member.good ? " good " : " stale ") + member.path + "\n";
  text += "checksum " + hex(crc32c(0, text.data(), text.size())) + "\n";
  SLUICE_ASSERT(text.size() <= kMirrorSlotSize);
  Slot slot(kMirrorSlotSize);
  std::transform(text.begin(), text.end(), slot.begin(), [](char c) { return static_cast<std::byte>(c); });
  return slot;
}

// Takes the rest of the line behind `key` off the text.
std::optional<std::string_view> take_line(std::string_view& text, std::string_view key) {
  if (!text.starts_with(key)) return std::nullopt;
  const auto end = text.find('\n');
  if (end == text.npos) return std::nullopt;
  const std::string_view line = text.substr(key.size(), end - key.size());
  text.remove_prefix(end + 1);
  return line;
}

std::optional<std::uint64_t> number(std::optional<std::string_view> text, int base) {
  std::uint64_t value = 0;
  if (!text) return std::nullopt;
  const auto [end, code] = std::from_chars(text->data(), text->data() + text->size(), value, base);
  if (code != std::errc() || end != text->data() + text->size()) return std::nullopt;
  return value;
}

std::optional<MirrorMember> parse_member(std::string_view line) {
  const auto first = line.find(' ');
  const auto second = first == line.npos ? first : line.find(' ', first + 1);
  if (second == line.npos) return std::nullopt;
  const auto id = number(line.substr(0, first), 16);
  const std::string_view word = line.substr(first + 1, second - first - 1);
  if (!id || *id == 0 || (word != "good" && word != "stale")) return std::nullopt;
  return MirrorMember{*id, word == "good", std::string(line.substr(second + 1))};
}

// Nothing: no state, or one that was torn. `newer` is set if it is whole and of another version.
std::optional<MirrorState> parse(std::string_view text, std::uint64_t& newer) {
  const std::string_view whole = text;
  const auto sum_at = text.rfind("checksum ");
  if (sum_at == text.npos) return std::nullopt;
  std::string_view tail = text.substr(sum_at);
  if (number(take_line(tail, "checksum "), 16) != crc32c(0, whole.data(), sum_at)) return std::nullopt;
  text = text.substr(0, sum_at);
  const auto version = number(take_line(text, kTitle), 10);
  if (!version) return std::nullopt;
  if (*version != kVersion) {
    newer = *version;
    return std::nullopt;
  }
  const auto set = number(take_line(text, "set "), 16);
  const auto generation = number(take_line(text, "generation "), 10);
  const auto self = number(take_line(text, "self "), 16);
  if (!set || !generation || !self) return std::nullopt;
  MirrorState state{*set, *generation, *self, {}};
  while (const auto line = take_line(text, "member ")) {
    const auto member = parse_member(*line);
    if (!member || state.members.size() == kMirrorCopiesMax) return std::nullopt;
    state.members.push_back(*member);
  }
  if (!text.empty()) return std::nullopt;
  return state;
}

std::string path_in(const std::string& root) { return root + '/' + kMirrorStateName; }

// Closes the file on every way out.
template <typename Body>
auto with_file(Disk& disk, const std::string& path, OpenMode mode, Body body) -> decltype(body(FileId())) {
  SLUICE_ASSIGN(const FileId file, disk.open(path, mode));
  auto result = body(file);
  disk.close(file);
  return result;
}

}  // namespace

const MirrorMember* MirrorState::find(std::uint64_t id) const {
  const auto found = std::find_if(members.begin(), members.end(), [id](const MirrorMember& m) { return m.id == id; });
  return found == members.end() ? nullptr : &*found;
}

bool MirrorState::is_good(std::uint64_t id) const {
  const MirrorMember* const member = find(id);
  return member != nullptr && member->good;
}

bool MirrorState::same_members(const MirrorState& other) const {
  return set == other.set && generation == other.generation && members == other.members;
}

Result<std::optional<MirrorState>> read_mirror_state(Disk& disk, const std::string& root) {
  const std::string path = path_in(root);
  std::vector<std::byte> bytes(kSlots * kMirrorSlotSize);
  const Result<std::size_t> got = with_file(
      disk, path, OpenMode::read, [&](FileId file) -> Result<std::size_t> { return disk.read(file, 0, bytes); });
  if (!got && got.error().code() == ErrorCode::not_found) return std::optional<MirrorState>();
  if (!got) return fail(got.error());
  std::optional<MirrorState> newest;
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + slot * kMirrorSlotSize, kMirrorSlotSize);
    std::uint64_t newer = 0;
    std::optional<MirrorState> state = parse(text.substr(0, text.find('\0')), newer);
    if (newer != 0)
      return fail(ErrorCode::version, "reading " + path + ": its format is version " + std::to_string(newer) +
                                          ", this build knows " + std::to_string(kVersion) +
                                          ": use the newer sluiced; nothing was changed");
    if (state && (!newest || state->generation > newest->generation)) newest = std::move(state);
  }
  if (newest) return newest;
  return fail(ErrorCode::corrupt, "reading " + path + ": it does not say any more which copies are good");
}

Status create_mirror_state(Disk& disk, const std::string& root, const MirrorState& state) {
  const std::string path = path_in(root);
  const std::string temporary = path + ".tmp";
  if (Status gone = disk.unlink(temporary); !gone && gone.error().code() != ErrorCode::not_found) return gone;
  Slot bytes(kSlots * kMirrorSlotSize);
  const Slot slot = slot_of(state);
  std::copy(slot.begin(), slot.end(),
            bytes.begin() + static_cast<std::ptrdiff_t>(state.generation % kSlots * kMirrorSlotSize));
  SLUICE_TRY(with_file(disk, temporary, OpenMode::create,
                       [&](FileId file) -> Status { return disk.write_synced(file, 0, bytes); }));
  SLUICE_TRY(disk.rename(temporary, path));
  return disk.sync_directory(root);
}

Status write_mirror_state(Disk& disk, const std::string& root, const MirrorState& state) {
  const Slot slot = slot_of(state);
  return with_file(disk, path_in(root), OpenMode::read_write, [&](FileId file) -> Status {
    return disk.write_synced(file, state.generation % kSlots * kMirrorSlotSize, slot);
  });
}

}  // namespace sluice::io
