#include "sdk/reader_core.h"

#include <algorithm>
#include <utility>

#include "sdk/message_access.h"
#include "sdk/partition_opener.h"
#include "shm/base/clock.h"
#include "shm/base/limits.h"

namespace sluice::internal {
namespace {

// Records of one partition before the others get their turn: enough to be worth a pin.
constexpr std::uint32_t kTurn = 256;
// Added partitions that could not be opened are tried again after it.
constexpr std::uint64_t kAddedRetryNs = 1'000'000'000;

}  // namespace

ReaderCore::ReaderCore(std::shared_ptr<BusLink> link, ReaderOptions options)
    : link_(std::move(link)),
      options_(std::move(options)),
      context_{*link_, *pool_, options_, counters_},
      wait_loop_(*link_, options_.wait, options_.spin_time, counters_.sleeps) {}

Result<std::unique_ptr<ReaderCore>> ReaderCore::open(std::shared_ptr<BusLink> link, std::vector<std::string> topics,
                                                     ReaderOptions options) {
  if (topics.empty()) return fail(ErrorCode::invalid, "opening a reader: no topic is named");
  std::unique_ptr<ReaderCore> core(new ReaderCore(std::move(link), std::move(options)));
  for (const std::string& name : topics) {
    const bool named_before =
        std::any_of(core->topics_.begin(), core->topics_.end(), [&](const Topic& topic) { return topic.name == name; });
    if (named_before) continue;
    core->topics_.push_back({core->pool_->keep_name(name), {}, 0, 0, nullptr});
    SLUICE_TRY(core->open_topic(core->topics_.back(), core->options_.partitions, core->options_.from, false));
  }
  // The lowest: a topic that was opened before the memory was replaced is then opened again.
  core->generation_ = core->topics_.front().generation;
  core->turn_left_ = kTurn;
  return core;
}

ReaderCore::~ReaderCore() {
  for (auto& stream : streams_) stream->release_cursor();
  bool told = true;
  for (const Topic& topic : topics_) {
    for (const std::uint64_t id : topic.reader_ids)
      told = link_->close_reader(id, topic.generation).has_value() && told;
  }
  if (!told) {
    for (auto& stream : streams_) stream->keep_cursor_cell();
  }
  streams_.clear();
}

// `reattach`: the streams are there and go on in the daemon's new memory.
Status ReaderCore::open_topic(Topic& topic, const std::vector<PartitionNumber>& partitions, const From& from,
                              bool reattach) {
  SLUICE_ASSIGN(OpenedReader opened, open_for_reading(*link_, topic.name, partitions, true));
  topic.reader_ids.push_back(opened.id);
  topic.partition_count = std::max(topic.partition_count, opened.partition_count);
  // Partitions added while memory was being replaced: the others are still in the old one, and are opened again.
  if (topic.generation == 0 || reattach) topic.generation = opened.generation;
  for (OpenedPartition& one : opened.partitions) {
    topic.maps = one.maps;
    PartitionStream* known = reattach ? find(topic.name, one.maps->partition()) : nullptr;
    if (known != nullptr) {
      SLUICE_TRY(known->reattach(std::move(one.maps), std::move(one.cursor)));
      continue;
    }
    streams_.push_back(
        std::make_unique<PartitionStream>(context_, topic.name, std::move(one.maps), std::move(one.cursor), one.range));
    SLUICE_TRY(streams_.back()->start(reattach ? From::earliest() : from));
  }
  return {};
}

// One load a topic: an idle reader costs the daemon nothing.
bool ReaderCore::has_added_partitions(const Topic& topic) const {
  return topic.maps->topic_partitions() > topic.partition_count;
}

bool ReaderCore::has_added_partitions() const {
  if (!options_.partitions.empty() || !BusLink::online(link_->word())) return false;
  const bool any =
      std::any_of(topics_.begin(), topics_.end(), [&](const Topic& topic) { return has_added_partitions(topic); });
  return any && monotonic_coarse_ns() >= added_retry_ns_;
}

Status ReaderCore::open_added_partitions() {
  for (Topic& topic : topics_) {
    if (!has_added_partitions(topic)) continue;
    std::vector<PartitionNumber> added;
    const std::uint32_t count = topic.maps->topic_partitions();
    for (PartitionNumber number = topic.partition_count; number < count; ++number) added.push_back(number);
    const Status opened = open_topic(topic, added, From::earliest(), false);
    if (opened) continue;
    added_retry_ns_ = monotonic_coarse_ns() + kAddedRetryNs;
    const ErrorCode code = opened.error().code();
    // The connection was lost: it is tried again when it is back.
    if (code == ErrorCode::no_daemon || code == ErrorCode::timed_out || code == ErrorCode::conflict) return {};
    return opened;
  }
  return {};
}

Status ReaderCore::reattach() {
  rest_all();
  const std::uint64_t now_generation = BusLink::generation(link_->word());
  for (Topic& topic : topics_) {
    if (topic.generation == now_generation) continue;
    topic.reader_ids.clear();  // they were the lost memory's
    const Status opened = open_topic(topic, options_.partitions, options_.from, true);
    if (opened) continue;
    const ErrorCode code = opened.error().code();
    // The connection was lost again: the next look comes back here.
    if (code == ErrorCode::no_daemon || code == ErrorCode::timed_out || code == ErrorCode::conflict) return {};
    return drop_topic(topic, opened.error());
  }
  generation_ = now_generation;
  return {};
}

Status ReaderCore::drop_topic(const Topic& topic, const Error& why) {
  Error error(why.code(), "reading on in topic " + std::string(topic.name) + ": " + why.context(), why.system_errno());
  drop_streams(topic.name);
  std::erase_if(topics_, [&](const Topic& other) { return &other == &topic; });
  if (topics_.empty()) closed_ = error;
  return fail(std::move(error));
}

bool ReaderCore::drop_streams(std::string_view topic) {
  const auto dropped = std::erase_if(streams_, [&](const std::unique_ptr<PartitionStream>& stream) {
    if (stream->topic() != topic) return false;
    stream->release_cursor();
    return true;
  });
  current_ = 0;
  turn_left_ = kTurn;
  return dropped != 0;
}

PartitionStream* ReaderCore::find(std::string_view topic, PartitionNumber partition) const {
  for (const auto& stream : streams_) {
    if (stream->partition() == partition && stream->topic() == topic) return stream.get();
  }
  return nullptr;
}

// ---- looking ----

Look ReaderCore::look(ring::RecordView& record, bool thorough) {
  const bool alone = streams_.size() == 1;
  bool passed_over = false;
  for (std::size_t turns = 0; turns < streams_.size();) {
    PartitionStream& stream = current();
    if (turn_left_ > 0 && (alone || thorough || !stream.is_quiet())) {
      const Look found = stream.next(record);
      if (found == Look::record) [[likely]] {
        --turn_left_;
        ++found_;
        return found;
      }
      if (found == Look::failed) return found;
      passed_over = passed_over || found == Look::more;
    }
    // A turn that was used up is not a look: the others come first, then this one again.
    if (turn_left_ > 0) ++turns;
    stream.rest(!alone);
    end_turn();
  }
  return passed_over ? Look::more : Look::nothing;
}

void ReaderCore::end_turn() {
  if (turn_left_ == 0) {
    // A reader that is never idle: a lost connection or session is met here.
    const std::uint64_t word = link_->word();
    if (!BusLink::online(word) || BusLink::generation(word) != generation_ || has_added_partitions())
      surroundings_due_ = true;
  }
  turn_left_ = kTurn;
  current_ = current_ + 1 < streams_.size() ? current_ + 1 : 0;
}

void ReaderCore::rest_all() {
  for (auto& stream : streams_) stream->rest(true);
}

void ReaderCore::count(const ring::RecordView& record) {
  ++counters_.messages;
  counters_.bytes += record.payload.size();
  if (current().in_file()) ++counters_.from_files;
}

Result<Message> ReaderCore::next(Duration timeout) {
  ring::RecordView record;
  if (closed_) [[unlikely]]
    return fail(*closed_);
  if (surroundings_due_) [[unlikely]]
    SLUICE_TRY(check_surroundings());
  const Look found = look(record, false);
  if (found == Look::failed) return fail(current().take_error());
  if (found != Look::record) SLUICE_TRY(wait(record, timeout));
  count(record);
  Message message;
  MessageAccess::set(message, current().hold(), current().topic(), current().partition(), record,
                     current().origin(record));
  return message;
}

Result<std::size_t> ReaderCore::poll(std::size_t count_max, Duration timeout,
                                     const std::function<void(const Message&)>& handler) {
  ring::RecordView record;
  if (closed_) [[unlikely]]
    return fail(*closed_);
  if (count_max == 0) return std::size_t{0};
  if (surroundings_due_) [[unlikely]]
    SLUICE_TRY(check_surroundings());
  Look found = look(record, false);
  if (found == Look::failed) return fail(current().take_error());
  if (found != Look::record) {
    if (Status waited = wait(record, timeout); !waited) {
      if (waited.error().code() == ErrorCode::timed_out) return std::size_t{0};
      return fail(std::move(waited).error());
    }
  }
  std::size_t handled = 0;
  Message message;
  for (;;) {
    count(record);
    MessageAccess::set(message, current().hold(), current().topic(), current().partition(), record,
                       current().origin(record));
    handler(message);
    if (++handled == count_max) break;
    found = look(record, false);
    // An error after messages were handled is met again by the next call.
    if (found != Look::record) break;
  }
  return handled;
}

// ---- waiting ----

struct ReaderCore::Waiting {
  ReaderCore& core;
  ring::RecordView& record;

  Status attend() { return core.check_surroundings(); }
  Look look(bool thorough) { return core.look(record, thorough); }
  Error take_error() { return core.current().take_error(); }
  std::uint32_t take_found() { return std::exchange(core.found_, 0); }
  void rest() { core.rest_all(); }
  void announce(SleepWords& words, std::uint64_t& bound_ns) {
    for (auto& stream : core.streams_) words.add(stream->announce(), bound_ns);
  }
  // Whoever adds partitions rings after it has said so.
  bool has_changed() const { return core.has_added_partitions(); }
  std::uint64_t sleep_bound_ns() const {
    std::uint64_t bound = ring::sleep_bound_ns();
    for (auto& stream : core.streams_) bound = std::min(bound, stream->sleep_bound_ns());
    return bound;
  }
  Status after_timeout() const { return nothing_came(*core.link_); }
};

Status ReaderCore::wait(ring::RecordView& record, Duration timeout) {
  Waiting waiting{*this, record};
  return wait_loop_.wait(waiting, nanoseconds(timeout));
}

Status ReaderCore::check_surroundings() {
  surroundings_due_ = false;
  const std::uint64_t word = link_->word();
  if (BusLink::generation(word) != generation_ && BusLink::online(word)) SLUICE_TRY(reattach());
  if (!BusLink::online(word) && link_->state() == ConnectionState::closed) SLUICE_TRY(link_->health());
  if (has_added_partitions()) SLUICE_TRY(open_added_partitions());
  for (const auto& stream : streams_) {
    const Status gate = stream->gate_status();
    if (gate) continue;
    // Told once; the reader goes on with its other topics.
    for (const Topic& topic : topics_) {
      if (topic.name == stream->topic()) return drop_topic(topic, gate.error());
    }
  }
  return {};
}

// ---- places ----

Position ReaderCore::position(std::string_view topic, PartitionNumber partition) const {
  const PartitionStream* stream = find(topic, partition);
  return stream != nullptr ? stream->position() : Position(0);
}

Status ReaderCore::seek(std::string_view topic, PartitionNumber partition, Position at) {
  PartitionStream* stream = find(topic, partition);
  if (stream == nullptr)
    return fail(ErrorCode::not_found, "seeking in " + std::string(topic) + "/" + std::to_string(partition) +
                                          ": this reader does not read it");
  stream->seek(at);
  return {};
}

bool ReaderCore::at_initial_end() const {
  return std::all_of(streams_.begin(), streams_.end(), [](const auto& stream) { return stream->at_initial_end(); });
}

}  // namespace sluice::internal
