#include "daemon/delivery/dead_letters.h"

#include <algorithm>
#include <map>
#include <optional>
#include <span>
#include <utility>

#include <spdlog/spdlog.h>

#include "shm/base/limits.h"
#include "shm/layout/trailer.h"

namespace sluice::delivery {
namespace {

constexpr std::uint64_t kRetryNs = 20'000'000;         // no room in the topic, or it is not durable yet
constexpr std::uint64_t kNoteRetryNs = 1'000'000'000;  // the store has refused
constexpr std::size_t kStepsPerTurn = 256;
constexpr std::uint64_t kLettersKept = 10'000;  // that are redriven or purged
constexpr const char* kOriginHeader = "sluice-origin";
constexpr const char* kGroupHeader = "sluice-group";

std::string origin_text(const std::string& topic, PartitionNumber partition, Position position) {
  return topic + "/" + std::to_string(partition) + "@" + std::to_string(position.value);
}

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

std::optional<std::string> header_of(const std::string& trailer, std::string_view name) {
  layout::TrailerReader reader(bytes_of(trailer));
  while (const auto entry = reader.next()) {
    if (entry->type != layout::TrailerType::header) continue;
    const auto header = layout::as_header(entry->bytes);
    if (header && header->first == name) return std::string(header->second);
  }
  return std::nullopt;
}

// What the application gave, as far as it fits beside what the daemon adds.
void copy_entries(const std::string& trailer, layout::TrailerBuilder& builder) {
  layout::TrailerReader reader(bytes_of(trailer));
  while (const auto entry = reader.next()) {
    Status added;
    switch (entry->type) {
      case layout::TrailerType::key: added = builder.key(layout::as_text(entry->bytes)); break;
      case layout::TrailerType::tag: added = builder.tag(layout::as_text(entry->bytes)); break;
      case layout::TrailerType::header:
        if (const auto header = layout::as_header(entry->bytes); header && !header->first.starts_with("sluice-"))
          added = builder.header(header->first, header->second);
        break;
      default: break;  // bookmark, due time and the like were the original's
    }
    if (!added) spdlog::warn("dead letter without a header that found no room reason={}", added.error().message());
  }
}

// What is noted of a message that is parked. One that was handed out again keeps the origin that it had.
store::DeadLetterRecord letter_of(const Group& group, const core::Place& place, Position position,
                                  const core::Pending& pending, const Logs& logs, store::GroupStore& store) {
  store::DeadLetterRecord record;
  record.reason = pending.reason;
  record.delivered = pending.delivered;
  record.failed = pending.failed;
  record.origin = {place.topic, place.partition};
  record.position = position;
  if (const auto topic = logs.find(place.topic)) record.origin_topic = topic->name;
  if (pending.letter == 0) return record;
  const auto letters = store.dead_letters(group.record().id, pending.letter - 1, 1);
  if (letters && !letters->empty() && letters->front().id == pending.letter) {
    record.origin = letters->front().origin;
    record.position = letters->front().position;
    record.origin_topic = letters->front().origin_topic;
  }
  return record;
}

}  // namespace

session::DeadLetter describe(const store::DeadLetterRecord& record, const std::string& group) {
  session::DeadLetter letter;
  letter.id = record.id;
  letter.group = group;
  letter.topic = record.origin_topic;
  letter.partition = record.origin.partition;
  letter.position = record.position;
  letter.parked_at = record.parked_at;
  letter.reason = record.reason;
  letter.delivered = record.delivered;
  letter.failed = record.failed;
  letter.parked_ns = record.parked_ns;
  letter.state = record.state == store::LetterState::parked     ? "parked"
                 : record.state == store::LetterState::redriven ? "redriven"
                                                                : "purged";
  return letter;
}

void DeadLetters::add(Group& group, std::vector<Parking> parkings, bool at_start) {
  for (const Parking& parking : parkings) {
    Entry entry;
    entry.group = &group;
    entry.place = parking.place;
    entry.position = parking.position;
    entry.step = at_start ? Step::find : Step::append;
    entries_.push_back(std::move(entry));
  }
  retry_at_ns_ = entries_.empty() ? 0 : 1;
}

void DeadLetters::forget(std::uint64_t group) {
  std::erase_if(entries_, [&](const Entry& entry) { return entry.group->record().id == group; });
}

bool DeadLetters::do_work(const Now& now) {
  if (entries_.empty() || now.ns < retry_at_ns_) return false;
  bool moved = false;
  std::vector<Entry> durable;
  // Each group's at once, while all of them are in the list.
  for (const Entry& entry : entries_)
    if (entry.step == Step::find) find_copies(*entry.group);
  const std::size_t steps = std::min(entries_.size(), kStepsPerTurn);
  for (std::size_t i = 0; i < steps; ++i) {
    Entry entry = std::move(entries_.front());
    entries_.pop_front();
    switch (advance(entry, now)) {
      case Advance::stays: entries_.push_back(std::move(entry)); break;
      case Advance::moved:
        entries_.push_back(std::move(entry));
        moved = true;
        break;
      case Advance::done:
        durable.push_back(std::move(entry));
        moved = true;
        break;
    }
  }
  if (!note(now, durable)) {
    retry_at_ns_ = now.ns + kNoteRetryNs;
    return false;
  }
  retry_at_ns_ = entries_.empty() ? 0 : now.ns + (moved ? 0 : kRetryNs);
  return moved;
}

DeadLetters::Advance DeadLetters::advance(Entry& entry, const Now& now) {
  if (entry.step == Step::append) return append(entry, now);
  const Result<Position> durable = logs_.durable(entry.topic, 0);
  return durable && *durable >= entry.copy_end ? Advance::done : Advance::stays;
}

DeadLetters::Advance DeadLetters::append(Entry& entry, const Now& now) {
  const core::DeliveryMachine& machine = entry.group->machine();
  const auto& pending =
      machine.has(entry.place) ? machine.acks(entry.place).pending() : std::map<Position, core::Pending>{};
  const auto found = pending.find(entry.position);
  if (found == pending.end() || found->second.state != core::PendingState::parking) {
    entry.copy_end = Position(0);  // it was sought away, or its topic is gone
    return Advance::done;
  }
  entry.record = letter_of(*entry.group, entry.place, entry.position, found->second, logs_, store_);
  entry.record.parked_ns = now.wall_ns;
  auto topic = logs_.make_dead_letter_topic(core::dead_letter_topic(entry.group->name()));
  if (!topic) {
    spdlog::error("dead letters have no topic group={} reason={}", entry.group->name(), topic.error().message());
    return Advance::stays;
  }
  entry.topic = *topic;
  auto copy = copy_of(entry, now);
  if (!copy && copy.error().code() == ErrorCode::not_found) {
    spdlog::warn("message is gone by retention before it was parked group={} origin={}", entry.group->name(),
                 origin_text(entry.record.origin_topic, entry.record.origin.partition, entry.record.position));
    copy = std::pair<std::string, std::string>();
  }
  if (!copy) return Advance::stays;
  auto appended = logs_.append(entry.topic, 0, copy->first, copy->second);
  if (!appended && appended.error().code() == ErrorCode::too_large) {
    // The topic of the dead letters takes less than the origin's: the letter says where the bytes are.
    appended = logs_.append(entry.topic, 0, {}, copy->second);
  }
  if (!appended) return Advance::stays;
  entry.copy = appended->first;
  entry.copy_end = appended->second;
  entry.record.parked_at = entry.copy;
  entry.step = Step::durable;
  return Advance::moved;
}

Result<std::pair<std::string, std::string>> DeadLetters::copy_of(Entry& entry, const Now& now) {
  SLUICE_ASSIGN(LogMessage message, logs_.read(entry.place.topic, entry.place.partition, entry.position));
  layout::TrailerBuilder builder;
  const store::DeadLetterRecord& record = entry.record;
  SLUICE_TRY(builder.header(kOriginHeader, origin_text(record.origin_topic, record.origin.partition, record.position)));
  const auto before = header_of(message.trailer, layout::kOriginIdHeader);  // of one that was a letter already
  SLUICE_TRY(builder.header(
      layout::kOriginIdHeader,
      before ? *before : to_text(layout::OriginId{entry.place.topic, entry.place.partition, message.origin})));
  SLUICE_TRY(builder.header(kGroupHeader, entry.group->name()));
  SLUICE_TRY(builder.header("sluice-reason", record.reason));
  SLUICE_TRY(builder.header("sluice-delivered", std::to_string(record.delivered)));
  SLUICE_TRY(builder.header("sluice-failed", std::to_string(record.failed)));
  SLUICE_TRY(builder.header("sluice-parked-ns", std::to_string(now.wall_ns)));
  copy_entries(message.trailer, builder);
  const std::span<const std::byte> trailer = builder.finish();
  return std::pair(std::move(message.payload),
                   std::string(reinterpret_cast<const char*>(trailer.data()), trailer.size()));
}

// Copies that an earlier daemon has appended, and did not live to note.
void DeadLetters::find_copies(Group& group) {
  const std::string name = core::dead_letter_topic(group.name());
  std::optional<TopicView> topic;
  for (const TopicView& one : logs_.topics())
    if (one.name == name) topic = one;
  std::map<std::string, LogRecord> copies;
  if (topic) {
    auto next = logs_.earliest(topic->id, 0);
    while (next) {
      auto walk = logs_.walk(topic->id, 0, *next, 1024, {});
      if (!walk) break;
      for (const LogRecord& record : walk->records) {
        auto message = logs_.read(topic->id, 0, record.position);
        if (!message) continue;
        if (auto origin = header_of(message->trailer, kOriginHeader)) copies[*origin] = record;
      }
      if (walk->at_end || walk->next <= *next) break;
      *next = walk->next;
    }
  }
  const auto noted = [&](Position copy) {
    auto letters = store_.dead_letters(group.record().id, 0, kLettersKept);
    return letters && std::any_of(letters->begin(), letters->end(),
                                  [&](const store::DeadLetterRecord& letter) { return letter.parked_at == copy; });
  };
  for (Entry& entry : entries_) {
    if (entry.group != &group || entry.step != Step::find) continue;
    entry.step = Step::append;
    if (!group.machine().has(entry.place)) continue;
    const core::Pending* pending = group.machine().acks(entry.place).find(entry.position);
    if (pending == nullptr) continue;
    entry.record = letter_of(group, entry.place, entry.position, *pending, logs_, store_);
    const auto copy =
        copies.find(origin_text(entry.record.origin_topic, entry.record.origin.partition, entry.record.position));
    if (copy == copies.end() || noted(copy->second.position)) continue;
    entry.topic = topic->id;
    entry.copy = copy->second.position;
    entry.copy_end = copy->second.end;
    entry.record.parked_at = entry.copy;
    entry.record.parked_ns = copy->second.time_ns;
    entry.step = Step::durable;
  }
}

// One transaction for each group: the letters, and the pending messages that they end.
bool DeadLetters::note(const Now& now, std::vector<Entry>& durable) {
  std::map<Group*, std::vector<Entry*>> by_group;
  for (Entry& entry : durable) by_group[entry.group].push_back(&entry);
  bool all = true;
  for (auto& [group, entries] : by_group) {
    // What was sought away, or lies in a topic that is gone, is not pending.
    std::vector<std::pair<const Entry*, core::Pending>> were;
    for (const Entry* entry : entries) {
      if (!group->machine().has(entry->place)) continue;
      const core::Pending* pending = group->machine().acks(entry->place).find(entry->position);
      if (pending == nullptr || pending->state != core::PendingState::parking) continue;
      were.emplace_back(entry, *pending);
      group->machine().parked(entry->place, entry->position);
    }
    store::GroupSave save = group->take_save(now);
    for (const Entry* entry : entries)
      if (entry->copy_end.value != 0) save.letters.push_back(entry->record);
    if (Status saved = store_.save_groups({save}); !saved) {
      spdlog::error("dead letters are not noted, tried again group={} reason={}", group->name(),
                    saved.error().message());
      group->save_failed(save);
      // Pending again: the next save of the group must not forget them without their letters.
      for (auto& [entry, pending] : were)
        group->machine().not_parked(entry->place, entry->position, std::move(pending));
      for (Entry* entry : entries) entries_.push_back(std::move(*entry));
      all = false;
      continue;
    }
    spdlog::info("messages parked group={} count={}", group->name(), save.letters.size());
    if (Status forgotten = store_.forget_dead_letters(group->record().id, kLettersKept); !forgotten)
      spdlog::error("old dead letters are not forgotten group={} reason={}", group->name(),
                    forgotten.error().message());
  }
  return all;
}

}  // namespace sluice::delivery
