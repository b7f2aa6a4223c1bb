#include "tests/sim/truth.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "tests/shm/ring/test_partition.h"

namespace sluice::sim {
namespace {

std::string at(Position position) { return "@" + std::to_string(position.value); }
std::string of(ProducerId producer, Sequence sequence) {
  return "producer " + std::to_string(producer.value) + " sequence " + std::to_string(sequence.value);
}

}  // namespace

void check(bool holds, const std::string& what) {
  if (!holds) throw Failure(what);
}

std::string payload_of(ProducerId producer, Sequence sequence, std::uint32_t size) {
  return ring::test::text_of((std::uint64_t{producer.value} << 32) ^ sequence.value, size);
}

void Truth::on_life(Position start) {
  check(start >= prepared_, "positions are used twice: a life starts at " + at(start) +
                                ", although an earlier one may have claimed up to " + at(prepared_));
  check(start >= durable_, "a life starts at " + at(start) + ", below what is durable");
  start_ = start;
  prepared_ = start;
  claims_.clear();
}

void Truth::on_durable(Position durable) {
  if (durable == start_) return;  // nothing yet
  check(durable >= durable_, "the durable watermark went back to " + at(durable));
  durable_ = durable;
}

void Truth::on_claim(Position begin, Position end) {
  check(begin >= start_, "a claim lies below the start of its life: " + at(begin));
  const auto after = claims_.lower_bound(begin);
  check(after == claims_.end() || after->first >= end, "two claims overlap at " + at(begin));
  check(after == claims_.begin() || std::prev(after)->second <= begin, "two claims overlap at " + at(begin));
  claims_[begin] = end;
  on_prepared(end);
}

void Truth::on_commit(Position begin, Message message) {
  check(messages_.emplace(begin, std::move(message)).second, "two messages at " + at(begin));
}

void Truth::on_read(Position position, ProducerId producer, Sequence sequence,
                    std::span<const std::byte> payload) const {
  const auto known = messages_.find(position);
  check(known != messages_.end(), "a reader met a message that nobody sent " + at(position));
  const Message& message = known->second;
  const std::string expected = payload_of(message.producer, message.sequence, message.size);
  check(message.producer == producer && message.sequence == sequence && payload.size() == expected.size() &&
            std::memcmp(payload.data(), expected.data(), expected.size()) == 0,
        "a reader met other bytes than were sent " + at(position));
}

void Truth::check_message(const Found& found) const {
  const auto known = messages_.find(found.position);
  check(known != messages_.end(),
        "the disk holds a message that nobody sent, or that an earlier recovery had cut: " + at(found.position));
  const Message& message = known->second;
  check(message.producer == found.producer && message.sequence == found.sequence && message.end == found.end,
        "the disk holds another message at " + at(found.position) + ": " + of(found.producer, found.sequence) +
            " instead of " + of(message.producer, message.sequence));
  check(found.delayed == message.due_ns.has_value(), "a message became another kind " + at(found.position));
  check(found.payload == payload_of(message.producer, message.sequence, message.size) &&
            found.bookmark == message.bookmark,
        "the disk holds other bytes at " + at(found.position));
}

bool Truth::is_fenced(ProducerId producer, Position position) const {
  const auto fence = fences_.find(producer);
  return fence != fences_.end() && position >= fence->second;
}

void Truth::check_ref(const Found& found) {
  const Position meant = *found.reference;
  const auto known = messages_.find(meant);
  check(meant < found.position && known != messages_.end() && known->second.due_ns,
        "a ref " + at(found.position) + " means what is no delayed message: " + at(meant));
  check(!is_fenced(known->second.producer, meant), "a fenced message is delivered " + at(found.position));
  check(found.time_ns >= *known->second.due_ns, "a message comes before its time " + at(found.position));
  check(refs_.emplace(meant, found.position).second, "two refs mean the message " + at(meant));
}

std::size_t Truth::check_delays(core::DelayQueue queue) const {
  std::map<Position, std::uint64_t> expected;
  for (const auto& [position, message] : messages_)
    if (message.due_ns && found_.contains(position) && !is_fenced(message.producer, position) &&
        !refs_.contains(position))
      expected[position] = *message.due_ns;
  queue.settle();
  std::map<Position, std::uint64_t> found;
  Position ref;
  for (auto next = queue.due(core::kDueNsMax); next; next = queue.due(core::kDueNsMax)) {
    found[next->position] = next->due_ns;
    queue.sent(ref = ref + 64);
  }
  check(found == expected, "the recovered daemon waits for " + std::to_string(found.size()) +
                               " messages, or for other ones, instead of " + std::to_string(expected.size()));
  return expected.size();
}

void Truth::count(const Found& found) {
  Counts& counts = counts_[found.producer];
  if (counts.first.value == 0) {
    counts.first = found.sequence;
    const auto first = first_.find(found.producer);
    check(first != first_.end(), "the disk holds a record of an unknown producer " + at(found.position));
    check(found.sequence == first->second, "the log of " + of(found.producer, found.sequence) + " starts " +
                                               at(found.position) + ", not at its first, " +
                                               std::to_string(first->second.value));
  } else {
    check(found.sequence == counts.last.next(), of(found.producer, found.sequence) + " follows " +
                                                    std::to_string(counts.last.value) + " " + at(found.position));
  }
  counts.last = found.sequence;
  const auto fence = fences_.find(found.producer);
  const bool above = fence != fences_.end() && found.position >= fence->second;
  if (found.aborted) {
    ++counts.aborted;
  } else if (above) {
    ++counts.fenced;
    return;
  } else {
    ++(found.delayed ? counts.delayed : counts.data);
    if (!found.bookmark.empty()) counts.bookmark = found.bookmark;
  }
  if (!above) counts.last_standing = found.sequence;
}

void Truth::match(const std::vector<Found>& found, Position end) {
  counts_.clear();
  refs_.clear();
  found_.clear();
  Position last;
  for (const Found& each : found) {
    check(each.position >= last, "the walk went back to " + at(each.position));
    last = each.end;
    check(each.end <= end, "a record reaches above the recovered end " + at(each.position));
    if (each.reference) {
      check_ref(each);
      continue;
    }
    if (!each.aborted) {
      check_message(each);
      found_.insert(each.position);
    }
    count(each);
  }
}

void Truth::check_recovered(const std::vector<Found>& found, Position end) {
  check(end >= durable_, "recovery ends " + at(end) + ", but " + at(durable_) + " was durable");
  match(found, end);
  std::map<Position, Message> kept;
  for (auto& [position, message] : messages_) {
    if (found_.contains(position)) {
      message.kept = true;
      kept.emplace(position, std::move(message));
      continue;
    }
    const std::string what = of(message.producer, message.sequence) + " " + at(position);
    check(!message.kept, "an earlier recovery had found what is gone now: " + what);
    check(message.end > durable_, "what was called durable is gone: " + what + ", durable was " + at(durable_));
    check(position >= end, "what is gone lies below the recovered end " + at(end) + ": " + what);
  }
  messages_ = std::move(kept);
  durable_ = found.empty() ? Position() : found.back().end;  // an end above the last record is of no use to anybody
}

void Truth::check_adopted(const std::vector<Found>& found, Position end) {
  check(end >= durable_, "kept memory goes on " + at(end) + ", but " + at(durable_) + " was durable");
  match(found, end);
  for (auto& [position, message] : messages_) {
    const bool is_there = found_.contains(position);
    check(is_there || position >= end, "kept memory goes on behind what is not on disk: " +
                                           of(message.producer, message.sequence) + " " + at(position));
    message.kept |= is_there;
  }
  if (!found.empty()) durable_ = std::max(durable_, found.back().end);
}

void Truth::check_complete(const std::vector<Found>& found) {
  match(found, prepared_);
  for (const auto& [position, message] : messages_)
    check(found_.contains(position),
          "what was committed is not on disk: " + of(message.producer, message.sequence) + " " + at(position));
}

void Truth::check_audit(const std::vector<core::AuditRow>& rows) const {
  std::size_t matched = 0;
  for (const core::AuditRow& row : rows) {
    const auto known = counts_.find(row.producer);
    const Counts expected = known == counts_.end() ? Counts{} : known->second;
    if (known != counts_.end()) ++matched;
    const core::AuditCounts& counts = row.counts;
    const bool holds = counts.data == expected.data && counts.delayed == expected.delayed &&
                       counts.aborted == expected.aborted && counts.fenced == expected.fenced && counts.gaps == 0 &&
                       counts.repeats == 0 && counts.sequence_first == expected.first &&
                       (known == counts_.end() || counts.sequence_last == expected.last);
    check(holds, "the audit of producer " + std::to_string(row.producer.value) + " says data " +
                     std::to_string(counts.data) + " aborted " + std::to_string(counts.aborted) + " fenced " +
                     std::to_string(counts.fenced) + " gaps " + std::to_string(counts.gaps) + " repeats " +
                     std::to_string(counts.repeats) + " first " + std::to_string(counts.sequence_first.value) +
                     " last " + std::to_string(counts.sequence_last.value) + ", the disk says data " +
                     std::to_string(expected.data) + " aborted " + std::to_string(expected.aborted) + " fenced " +
                     std::to_string(expected.fenced) + " first " + std::to_string(expected.first.value) + " last " +
                     std::to_string(expected.last.value));
  }
  check(matched == counts_.size(), "a producer whose records are on disk has no audit row");
}

std::optional<Standing> Truth::standing(ProducerId producer) const {
  const auto known = counts_.find(producer);
  if (known == counts_.end() || known->second.last_standing.value == 0) return std::nullopt;
  return Standing{known->second.last_standing, known->second.bookmark};
}

}  // namespace sluice::sim
