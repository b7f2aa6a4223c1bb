#include "sdk/file_source.h"

#include <algorithm>
#include <utility>

#include "shm/layout/record.h"

namespace sluice::internal {
Status FileSource::open(LocateAnswer answer) {
  const std::string what = "the log file of " + name_ + " from position " + std::to_string(answer.base.value);
  const std::uint64_t segment_size = std::uint64_t{1} << segment_shift_;
  if (answer.base.value % segment_size != 0 || answer.data_end <= answer.base)
    return fail(ErrorCode::corrupt, "opening " + what + ": it is said to end at " +
                                        std::to_string(answer.data_end.value) + ", which cannot be; report this");
  auto map = std::make_shared<FileMap>();
  SLUICE_ASSIGN(map->mapping, region::Mapping::map(answer.file.get(), region::Access::read_only, what, 0,
                                                   answer.data_end - answer.base));
  map->base = answer.base;
  map->data_end = answer.data_end;
  map_ = std::move(map);
  populated_ = map_->base;
  return {};
}

void FileSource::close() { map_.reset(); }

bool FileSource::covers(Position position) const {
  return map_ != nullptr && position >= map_->base && position + layout::kRecordAlignment <= map_->data_end;
}

Position FileSource::segment_limit(const ring::SegmentView& view) const { return std::min(view.end, map_->data_end); }

Status FileSource::populate(Position to) {
  SLUICE_TRY(
      map_->mapping.populate_read(populated_ - map_->base, to - populated_,
                                  "the log file of " + name_ + " from position " + std::to_string(map_->base.value)));
  populated_ = to;
  return {};
}

Status FileSource::enter(Position position, ring::SegmentView& view, layout::SegmentCheck& check) {
  const SegmentNumber segment(position.value >> segment_shift_);
  view.start = Position(segment.value << segment_shift_);
  view.end = view.start + (std::uint64_t{1} << segment_shift_);
  view.base = map_->mapping.data() + (view.start - map_->base);
  step_size_ = populate_step_;
  stuck_at_ = Position(0);
  // The header, and then from the position on: the bytes between are not looked at.
  populated_ = view.start;
  SLUICE_TRY(populate(std::min(view.start + layout::kSegmentHeaderSize, map_->data_end)));
  layout::SegmentHeader header{};
  check = segment_limit(view) - view.start < layout::kSegmentHeaderSize
              ? layout::SegmentCheck::corrupt
              : layout::read_segment_header(view.base, topic_, partition_, segment, header);
  if (check != layout::SegmentCheck::ok) return {};
  view.checksum = header.checksum;
  view.verify = (header.flags & layout::kSegmentFlagChecksums) != 0;
  if (position > populated_) populated_ = position;
  view.limit = populated_;
  SLUICE_ASSIGN([[maybe_unused]] const bool more, extend(position, view));
  return {};
}

Result<bool> FileSource::extend(Position position, ring::SegmentView& view) {
  const Position end = segment_limit(view);
  if (view.limit >= end) return false;
  step_size_ = position == stuck_at_ ? step_size_ * 2 : populate_step_;
  stuck_at_ = position;
  SLUICE_TRY(populate(Position(std::min(end.value, populated_.value + step_size_))));
  view.limit = populated_;
  return true;
}

}  // namespace sluice::internal
