#include <algorithm>
#include <cstring>

#include "shm/layout/trailer.h"
#include "tests/sim/life.h"
#include "tests/sim/log_walk.h"

namespace sluice::sim {
namespace {

constexpr std::size_t kProducersMax = 10;
constexpr std::uint32_t kReadAtOnce = 30;
constexpr std::uint64_t kDelayNsMax = 100'000'000;

}  // namespace

// ---- producers come and go

Producer* Life::find(ProducerId id) {
  for (Producer& producer : producers_)
    if (producer.id == id) return &producer;
  return nullptr;
}

std::uint32_t Life::free_cell() const {
  for (std::uint32_t cell = 0;; ++cell) {
    const bool taken = std::any_of(producers_.begin(), producers_.end(),
                                   [&](const Producer& producer) { return producer.cell == cell; });
    if (!taken) return cell;
  }
}

// Where it stands, or stood when it was fenced.
spill::ProducerMark Life::mark_of(const Producer& producer, PartitionNumber partition) {
  if (producer.fenced[partition]) return *producer.fenced[partition];
  return {Sequence(producer.appenders[partition]->next_sequence().value - 1), producer.bookmarks[partition]};
}

// What a new holder of the name must be told; nothing where that is not known here.
std::optional<spill::ProducerMark> Life::expected_mark(const Unit& unit, const std::string& name) {
  const std::vector<ProducerId>& ids = machine_.attaches[name];
  if (ids.empty()) return spill::ProducerMark{};
  if (half_fenced_before_.contains(ids.back())) return std::nullopt;
  if (const Producer* old = find(ids.back())) return mark_of(*old, unit.number);
  if (const auto old = buried_.find(ids.back()); old != buried_.end()) return old->second[unit.number];
  spill::ProducerMark expected;
  for (auto id = ids.rbegin(); id != ids.rend(); ++id) {
    if (machine_.half_fenced.contains(*id)) return std::nullopt;
    const auto standing = unit.truth->standing(*id);
    if (!standing) continue;
    expected.sequence = std::max(expected.sequence, standing->last);
    if (expected.bookmark.empty()) expected.bookmark = standing->bookmark;
  }
  return expected;
}

// As Bus::take_over_name. Nothing: there is no room for a fence now.
std::optional<std::vector<spill::ProducerMark>> Life::take_over(const std::string& name, ProducerId id) {
  std::vector<spill::ProducerMark> marks(units_.size());
  const std::vector<ProducerId> ids = machine_.attaches[name];
  for (auto& unit : units_) {
    const auto expected = expected_mark(*unit, name);
    spill::ProducerMark& mark = marks[unit->number];
    if (!ids.empty() && attached_.is_producer_alive(ids.back())) {
      auto fence = unit->partition->fence(ids.back(), id);
      if (!fence) {
        check(fence.error().code() == ErrorCode::would_block || fence.error().code() == ErrorCode::io,
              "fencing fails: " + fence.error().message());
        return std::nullopt;
      }
      machine_.half_fenced.insert(ids.back());
      unit->truth->on_fence(ids.back(), fence->position);
      unit->truth->on_prepared(fence->position);
      if (!survived(store_->add_fence(topic_.id, {unit->number, ids.back(), fence->position}), "saving a fence"))
        return std::nullopt;
      mark = fence->mark;
      if (Producer* old = find(ids.back())) old->fenced[unit->number] = mark;
      ++machine_.reached.fences;
      machine_.tell("fence of " + std::to_string(ids.back().value) + " in partition " + std::to_string(unit->number) +
                    " @" + std::to_string(fence->position.value) + " sequence " +
                    std::to_string(fence->mark.sequence.value));
    } else if (!ids.empty()) {
      mark = unit->partition->last_of(ids.back());
    }
    if (!expected) continue;
    check(mark.sequence == expected->sequence && mark.bookmark == expected->bookmark,
          "the holder of " + name + " is told sequence " + std::to_string(mark.sequence.value) + " bookmark '" +
              mark.bookmark + "' instead of " + std::to_string(expected->sequence.value) + " '" + expected->bookmark +
              "' in partition " + std::to_string(unit->number));
  }
  return marks;
}

bool Life::add_producer(std::uint32_t cell, const std::string& name) {
  const auto leased = store_->lease_producer_ids(1);
  if (!survived(leased ? Status() : Status(fail(leased.error())), "leasing a producer id")) return false;
  Producer producer;
  producer.id = *leased;
  producer.name = name;
  producer.cell = cell;
  std::vector<spill::ProducerMark> marks(units_.size());
  if (!name.empty()) {
    auto taken = take_over(name, producer.id);
    if (!taken) return !power_is_off();
    marks = std::move(*taken);
  }
  for (auto& unit : units_) {
    const spill::ProducerMark& mark = marks[unit->number];
    if (!name.empty()) unit->partition->attach_name(producer.id, name, mark);
    unit->truth->on_attach(producer.id, mark.sequence.next());
    producer.appenders.push_back(
        std::make_unique<ring::Appender>(unit->memory(), producer.id, pins_.cell(cell), false, mark.sequence.next()));
    producer.bookmarks.push_back(mark.bookmark);
    producer.fenced.emplace_back();
  }
  if (!name.empty()) {
    if (!survived(store_->add_named_producer(topic_.id, {name, producer.id}), "saving a producer name")) return false;
    std::vector<ProducerId>& ids = machine_.attaches[name];
    const bool of_this_life = !ids.empty() && (find(ids.back()) != nullptr || buried_.contains(ids.back()));
    if (of_this_life) machine_.half_fenced.erase(ids.back());
    ids.push_back(producer.id);
  }
  attached_.alive.insert(producer.id.value);
  machine_.tell("producer " + std::to_string(producer.id.value) + " " + name);
  producers_.push_back(std::move(producer));
  return true;
}

void Life::new_producer() {
  if (!serves_ || producers_.size() >= kProducersMax) return;
  std::string name;
  if (!machine_.attaches.empty() && machine_.one_in(2)) {
    auto chosen = machine_.attaches.begin();
    std::advance(chosen, static_cast<std::ptrdiff_t>(machine_.below(machine_.attaches.size())));
    name = chosen->first;
  } else if (machine_.one_in(2)) {
    name = "late" + std::to_string(next_name_++);
  }
  add_producer(free_cell(), name);
}

void Life::die(Producer& producer) {
  producer.dead = true;
  machine_.tell("producer " + std::to_string(producer.id.value) + " dies" + (producer.open ? " inside a claim" : ""));
  // Between pin and claim, or between commit and unpin.
  Unit& unit = *units_[machine_.below(units_.size())];
  const ring::PartitionMemory memory = unit.memory();
  if (!producer.open && machine_.one_in(2))
    pins_.cell(producer.cell).store(layout::pin_word(memory.handle, memory.segment_of(tail_of(unit))));
}

// The death is proven: as Bus::sweep, then the pins go.
void Life::bury(Producer& producer) {
  attached_.alive.erase(producer.id.value);
  for (auto& unit : units_)
    machine_.reached.repaired += unit->partition->sweep([&](ProducerId id) { return id == producer.id; });
  pins_.cell(producer.cell).store(0);
  for (auto& unit : units_) buried_[producer.id].push_back(mark_of(producer, unit->number));
}

Position Life::tail_of(const Unit& unit) {
  return unit.partition ? unit.partition->tail() : Position(unit.memory().log->tail.load());
}

// ---- what a producer does

std::uint32_t Life::some_size() {
  const std::uint64_t kind = machine_.below(10);
  if (kind < 6) return static_cast<std::uint32_t>(machine_.below(300));
  if (kind < 9) return static_cast<std::uint32_t>(machine_.below(4000));
  return static_cast<std::uint32_t>(machine_.below(15'000));
}

std::string Life::bookmark_of(const Producer& producer, PartitionNumber partition) const {
  if (producer.name.empty()) return {};
  return "b" + std::to_string(producer.appenders[partition]->next_sequence().value);
}

void Life::committed(const Producer& producer, Unit& unit, const ring::Appended& appended, std::uint32_t size,
                     std::string bookmark, std::optional<std::uint64_t> due_ns) {
  unit.truth->on_commit(appended.position,
                        {producer.id, appended.sequence, appended.end, size, std::move(bookmark), false, due_ns});
  machine_.reached.delayed += due_ns ? 1 : 0;
  ++machine_.reached.messages;
}

void Life::producer_step() {
  if (producers_.empty()) return new_producer();
  const std::size_t index = machine_.below(producers_.size());
  Producer& producer = producers_[index];
  if (producer.dead) {
    if (!serves_ || !machine_.one_in(4)) return;
    bury(producer);
    producers_.erase(producers_.begin() + static_cast<std::ptrdiff_t>(index));
    return new_producer();
  }
  if (producer.open) return go_on(producer);
  const std::uint64_t what = machine_.below(100);
  if (what < 60) return append(producer);
  if (what < 75) return append_batch(producer);
  if (what < 96) return open_claim(producer);
  if (what < 98) return die(producer);
  new_producer();
}

void Life::append(Producer& producer) {
  Unit& unit = *units_[machine_.below(units_.size())];
  const Sequence sequence = producer.appenders[unit.number]->next_sequence();
  const std::uint32_t size = some_size();
  const std::string payload = payload_of(producer.id, sequence, size);
  layout::TrailerBuilder trailer;
  const std::string bookmark = bookmark_of(producer, unit.number);
  if (!bookmark.empty()) check(trailer.bookmark(bookmark).has_value(), "a bookmark does not fit");
  std::optional<std::uint64_t> due_ns;
  if (machine_.delays && machine_.one_in(3)) trailer.due(due_ns.emplace(machine_.now_ns + machine_.below(kDelayNsMax)));
  ring::Appended appended;
  const ring::AppendResult result =
      producer.appenders[unit.number]->append({ring::test::bytes(payload), trailer.finish(), machine_.now_ns}, appended,
                                              due_ns ? layout::RecordKind::delayed : layout::RecordKind::data);
  if (result != ring::AppendResult::ok) return;
  unit.truth->on_claim(appended.position, appended.end);
  if (!bookmark.empty() && !producer.fenced[unit.number]) producer.bookmarks[unit.number] = bookmark;
  committed(producer, unit, appended, size, bookmark, due_ns);
}

void Life::append_batch(Producer& producer) {
  Unit& unit = *units_[machine_.below(units_.size())];
  ring::Appender& appender = *producer.appenders[unit.number];
  const std::uint64_t first = appender.next_sequence().value;
  std::vector<std::string> payloads;
  for (std::uint64_t i = 0, count = 1 + machine_.below(8); i < count; ++i)
    payloads.push_back(payload_of(producer.id, Sequence(first + i), static_cast<std::uint32_t>(machine_.below(700))));
  std::vector<std::span<const std::byte>> views;
  for (const std::string& payload : payloads) views.push_back(ring::test::bytes(payload));
  layout::TrailerBuilder trailer;
  const std::string bookmark = bookmark_of(producer, unit.number);
  if (!bookmark.empty()) check(trailer.bookmark(bookmark).has_value(), "a bookmark does not fit");
  const std::span<const std::byte> shared = trailer.finish();
  ring::Appended appended;
  if (appender.append_batch(views, {{}, shared, machine_.now_ns}, appended) != ring::AppendResult::ok) return;
  unit.truth->on_claim(appended.position, appended.end);
  if (!bookmark.empty() && !producer.fenced[unit.number]) producer.bookmarks[unit.number] = bookmark;
  Position at = appended.position;
  for (std::size_t i = 0; i < payloads.size(); ++i) {
    const Position end = at + layout::record_span(payloads[i].size(), shared.size());
    committed(producer, unit, {at, end, Sequence(first + i)}, static_cast<std::uint32_t>(payloads[i].size()), bookmark);
    at = end;
  }
  check(at == appended.end, "a batch is not as long as its records");
}

void Life::open_claim(Producer& producer) {
  OpenOne open;
  open.partition = static_cast<PartitionNumber>(machine_.below(units_.size()));
  Unit& unit = *units_[open.partition];
  open.size = some_size();
  open.bookmark = bookmark_of(producer, open.partition);
  layout::TrailerBuilder trailer;
  if (!open.bookmark.empty()) check(trailer.bookmark(open.bookmark).has_value(), "a bookmark does not fit");
  const auto bytes = trailer.finish();
  open.trailer.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const ring::AppendResult result =
      producer.appenders[open.partition]->claim(open.size, open.trailer.size(), layout::RecordKind::data, open.claim);
  if (result != ring::AppendResult::ok) return;
  unit.truth->on_claim(open.claim.position, open.claim.position + open.claim.word.span_size());
  open.since_ns = machine_.now_ns;
  producer.open = std::move(open);
}

void Life::go_on(Producer& producer) {
  OpenOne& open = *producer.open;
  if (machine_.one_in(3)) scribble(open);
  if (machine_.now_ns < open.stalled_until_ns) return;
  const std::uint64_t what = machine_.below(20);
  if (what < 12) return commit(producer);
  if (what < 14) {
    producer.appenders[open.partition]->abort(open.claim);
    producer.open.reset();
  } else if (what < 16) {
    open.stalled_until_ns = machine_.now_ns + topic_.config.claim_deadline_ns * 3 / 2;
    machine_.tell("producer " + std::to_string(producer.id.value) + " stalls");
  } else if (what < 17) {
    die(producer);
  }
}

// An owner writes into what it has claimed: payload at any time, and once the claim was aborted (it does not know) the
// header's fields too.
void Life::scribble(const OpenOne& open) {
  auto* header = reinterpret_cast<layout::RecordHeader*>(open.claim.record);
  const bool is_zombie = !layout::ClaimWord{header->claim.load(std::memory_order_acquire)}.is_claimed();
  std::byte* const payload = open.claim.payload();
  for (std::uint32_t i = 0; i < open.size; i += 1 + static_cast<std::uint32_t>(machine_.below(64)))
    payload[i] = static_cast<std::byte>(machine_.below(256));
  if (!is_zombie) return;
  header->sequence = machine_.random.next();
  header->time_ns = machine_.random.next();
  header->payload_size = static_cast<std::uint32_t>(machine_.random.next());
  header->checksum = static_cast<std::uint32_t>(machine_.random.next());
}

void Life::commit(Producer& producer) {
  const OpenOne open = std::move(*producer.open);
  producer.open.reset();
  Unit& unit = *units_[open.partition];
  const std::string payload = payload_of(producer.id, open.claim.sequence, open.size);
  std::memcpy(open.claim.payload(), payload.data(), payload.size());
  ring::Appended appended;
  const ring::AppendResult result = producer.appenders[open.partition]->commit(
      open.claim, open.size, ring::test::bytes(open.trailer), machine_.now_ns, appended);
  if (result == ring::AppendResult::ok) {
    if (!open.bookmark.empty() && !producer.fenced[open.partition]) producer.bookmarks[open.partition] = open.bookmark;
    return committed(producer, unit, appended, open.size, open.bookmark);
  }
  check(result == ring::AppendResult::claim_expired, "a commit answers what no commit may answer");
  const bool late = machine_.now_ns >= open.since_ns + topic_.config.claim_deadline_ns;
  check(late || producer.fenced[open.partition], "a claim was aborted before its deadline");
  if (late) ++machine_.reached.expired;
}

// ---- readers

// True if the memory has moved on.
bool Life::read_memory(Unit& unit) {
  const ring::PartitionMemory memory = unit.memory();
  std::atomic<std::uint64_t>& cell = pins_.cell(63 - unit.number);
  const SegmentNumber segment = memory.segment_of(unit.place->cursor);
  std::uint32_t slot = 0;
  const ring::Presence presence = ring::pin_segment(memory, cell, segment, slot);
  if (presence != ring::Presence::here) return presence == ring::Presence::gone;
  const ring::SegmentView view = ring::view_of(memory, segment, slot, true);
  for (std::uint32_t i = 0; i < kReadAtOnce; ++i) {
    ring::RecordView record;
    Sequence expected;
    const ring::ScanResult result = ring::scan_record(view, unit.place->cursor, record);
    const layout::RecordKind kind = record.fields.claim.kind();
    const bool is_daemons = kind == layout::RecordKind::fence || kind == layout::RecordKind::ref;
    if (result == ring::ScanResult::record && !is_daemons) {
      const ProducerId producer = record.fields.claim.producer();
      unit.truth->on_read(record.position, producer, record.fields.sequence, record.payload);
      const auto verdict = unit.place->continuity.on_record(producer, record.fields.sequence, expected);
      check(verdict == ring::Continuity::Verdict::first || verdict == ring::Continuity::Verdict::next,
            "a reader meets a gap or a repeat @" + std::to_string(record.position.value));
    } else if (result == ring::ScanResult::aborted) {
      unit.place->continuity.on_abort(record.fields.claim.producer());
    } else if (result != ring::ScanResult::pad && !is_daemons) {
      check(result != ring::ScanResult::corrupt_record && result != ring::ScanResult::broken_chain,
            "a reader meets bytes that are no record @" + std::to_string(record.position.value));
      break;
    }
  }
  // Held a little longer at times: a slot must wait for it.
  if (!machine_.one_in(8)) cell.store(0, std::memory_order_release);
  return false;
}

void Life::read_some(Unit& unit) {
  if (!read_memory(unit)) return;
  log::PartitionLog& log = *unit.partition->log();
  const auto mend = [&](Position position) { return mend_in(log, position); };
  const auto visit = [&](const Found& found) {
    Sequence expected;
    if (found.reference) return;
    if (found.aborted) return unit.place->continuity.on_abort(found.producer);
    unit.truth->on_read(found.position, found.producer, found.sequence, ring::test::bytes(found.payload));
    const auto verdict = unit.place->continuity.on_record(found.producer, found.sequence, expected);
    check(verdict == ring::Continuity::Verdict::first || verdict == ring::Continuity::Verdict::next,
          "a reader of files meets a gap or a repeat @" + std::to_string(found.position.value));
  };
  std::optional<Position> next;
  try {
    next = walk_segment(log, topic_.config.segment_size, unit.place->cursor, mend, visit);
  } catch (const PowerOff&) {
    return;
  }
  const Position start(unit.memory().control->start_position);
  check(next || unit.place->cursor < start,
        "what has left memory is in no file @" + std::to_string(unit.place->cursor.value));
  if (next) ++machine_.reached.file_reads;
  unit.place->cursor = next ? *next : start;
}

}  // namespace sluice::sim
