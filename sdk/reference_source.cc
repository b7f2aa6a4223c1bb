#include "sdk/reference_source.h"

#include <algorithm>
#include <utility>

#include "shm/base/clock.h"
#include "shm/layout/record.h"
#include "shm/layout/segment.h"

namespace sluice::internal {
namespace {

// The daemon had no answer: ask again after it.
constexpr std::uint64_t kAskAgainNs = 2'000'000;
// Read in around a message: its neighbours are likely somebody else's time.
constexpr std::uint64_t kPopulateStepSize = 64 * 1024;

}  // namespace

ReferenceSource::ReferenceSource(BusLink& link, HoldPool& pool, TopicId topic, PartitionNumber partition,
                                 std::uint32_t segment_shift, const std::string& name)
    : link_(link), pool_(pool), topic_(topic), partition_(partition), segment_size_(std::uint64_t{1} << segment_shift) {
  for (auto& file : files_)
    file.emplace(File{FileSource(topic, partition, segment_shift, name, kPopulateStepSize), nullptr, 0});
}

ReferenceSource::~ReferenceSource() { close(); }

void ReferenceSource::rest() {
  if (hold_ == memory_hold_) hold_ = nullptr;
  release(std::exchange(memory_hold_, nullptr));
}

void ReferenceSource::close() {
  rest();
  for (auto& file : files_) {
    file->source.close();
    release(std::exchange(file->hold, nullptr));
  }
  file_ = nullptr;
  hold_ = nullptr;
  mend_asked_.reset();
  mending_ = false;
}

ReferenceSource::Found ReferenceSource::find(const MemorySource& memory, Position ref, Position reference,
                                             ring::RecordView& record) {
  const bool possible = reference < ref && reference.value % layout::kRecordAlignment == 0 &&
                        reference.value % segment_size_ >= layout::kSegmentHeaderSize;
  if (!possible) return corrupt("it refers to " + std::to_string(reference.value) + ", where no message can be");
  ++calls_;
  const Found entered = enter(memory, reference);
  return entered == Found::record ? look(memory, reference, record) : entered;
}

ReferenceSource::Found ReferenceSource::enter(const MemorySource& memory, Position reference) {
  const bool pinned = memory_hold_ != nullptr && memory_hold_->memory == memory.maps();
  if (pinned && memory_view_.start <= reference && reference < memory_view_.end) {
    file_ = nullptr;
    hold_ = memory_hold_;
    view_ = memory_view_;
    return Found::record;
  }
  rest();
  auto hold = pool_.take(memory.maps()->session());
  if (!hold) return fail_with(hold.error());
  memory_hold_ = *hold;
  switch (memory.enter(reference, memory_hold_->pin.cell(), memory_view_)) {
    case ring::Presence::here:
      memory_hold_->memory = memory.maps();
      file_ = nullptr;
      hold_ = memory_hold_;
      view_ = memory_view_;
      return Found::record;
    case ring::Presence::gone: rest(); return enter_file(reference);
    case ring::Presence::not_yet: break;
  }
  rest();
  return corrupt("it refers to " + std::to_string(reference.value) + ", which was never used");
}

ReferenceSource::File* ReferenceSource::covering(Position reference) {
  for (auto& file : files_)
    if (file->source.covers(reference)) return &*file;
  return nullptr;
}

ReferenceSource::Found ReferenceSource::enter_file(Position reference) {
  File* file = covering(reference);
  if (file == nullptr) {
    if (const Found located = locate(reference); located != Found::record) return located;
    file = covering(reference);
    if (file == nullptr) return corrupt("it refers to " + std::to_string(reference.value) + ", behind the log's end");
  }
  file->used = calls_;
  if (file->hold == nullptr) {
    auto hold = pool_.take(nullptr);
    if (!hold) return fail_with(hold.error());
    file->hold = *hold;
    file->hold->file = file->source.map();
  }
  layout::SegmentCheck check = layout::SegmentCheck::ok;
  if (const Status entered = file->source.enter(reference, view_, check); !entered)
    return mend_asked_ == reference ? fail_with(entered.error()) : mend(reference, {});
  if (check == layout::SegmentCheck::newer_version)
    return fail_with(
        Error(ErrorCode::version, "reading position " + std::to_string(reference.value) +
                                      ": its segment has a newer format than this build knows; update it"));
  if (check != layout::SegmentCheck::ok)
    return mend(reference, "the segment header at what it refers to is damaged: " + std::to_string(reference.value));
  file_ = file;
  hold_ = file->hold;
  return Found::record;
}

// `record`: a file that covers it is open.
ReferenceSource::Found ReferenceSource::locate(Position reference) {
  if (!BusLink::online(link_.word()) || monotonic_coarse_ns() < locate_after_ns_) return Found::not_yet;
  auto answer = link_.locate(topic_, partition_, reference, mending_);
  if (!answer) return fail_with(answer.error());
  mending_ = mending_ && answer->kind == LocateAnswer::Kind::above;
  switch (answer->kind) {
    case LocateAnswer::Kind::file: {
      auto oldest = std::min_element(files_.begin(), files_.end(),
                                     [](const auto& a, const auto& b) { return a->used < b->used; });
      release(std::exchange((*oldest)->hold, nullptr));
      if (const Status opened = (*oldest)->source.open(std::move(*answer)); !opened) return fail_with(opened.error());
      return Found::record;
    }
    case LocateAnswer::Kind::skip:
      return corrupt("what it refers to is damaged on every copy, at " + std::to_string(reference.value));
    case LocateAnswer::Kind::trimmed: return Found::gone;
    case LocateAnswer::Kind::above: break;
  }
  locate_after_ns_ = monotonic_coarse_ns() + kAskAgainNs;
  return Found::not_yet;
}

ReferenceSource::Found ReferenceSource::look(const MemorySource& memory, Position reference, ring::RecordView& record) {
  for (;;) {
    Position next = reference;
    const ring::ScanResult result = ring::scan_record(view_, next, record);
    if (result == ring::ScanResult::record && layout::waits_for_ref(record.fields.claim.kind())) return Found::record;
    if (result != ring::ScanResult::limit) break;
    if (file_ == nullptr) {
      if (!memory.extend(view_)) break;
      memory_view_ = view_;
      continue;
    }
    const auto extended = file_->source.extend(reference, view_);
    if (!extended) return mend_asked_ == reference ? fail_with(extended.error()) : mend(reference, {});
    if (!*extended) break;
  }
  std::string reason = "no message that waited stands at what it refers to: " + std::to_string(reference.value);
  return file_ == nullptr ? corrupt(std::move(reason)) : mend(reference, std::move(reason));
}

// What stands in a log file does not hold: the daemon is asked once to see to it, who may have it on another copy.
ReferenceSource::Found ReferenceSource::mend(Position reference, std::string reason) {
  if (mend_asked_ == reference) return corrupt(std::move(reason));
  mend_asked_ = reference;
  mending_ = true;
  if (File* file = covering(reference)) {
    file->source.close();
    release(std::exchange(file->hold, nullptr));
  }
  file_ = nullptr;
  hold_ = nullptr;
  return Found::not_yet;
}

ReferenceSource::Found ReferenceSource::corrupt(std::string reason) {
  reason_ = std::move(reason);
  return Found::corrupt;
}

ReferenceSource::Found ReferenceSource::fail_with(Error error) {
  error_ = std::move(error);
  return Found::failed;
}

}  // namespace sluice::internal
