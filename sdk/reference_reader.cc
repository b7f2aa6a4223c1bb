#include "sdk/reference_reader.h"

#include <string>
#include <utility>

#include "shm/layout/record.h"

namespace sluice::internal {

ReferenceReader::ReferenceReader(StreamContext& context, std::shared_ptr<BusLink> link)
    : context_(context), link_(std::move(link)) {}

Status ReferenceReader::open(Open& into, const Reference& reference, std::string_view topic,
                             const PartitionMapsPtr& open_already) {
  OpenedPartition partition;
  if (open_already != nullptr) {
    partition.maps = open_already;
  } else {
    SLUICE_ASSIGN(OpenedReader opened, open_for_reading(*link_, topic, {reference.partition}, false));
    into.reader = std::make_shared<ReaderHandle>(link_, opened);
    if (opened.partitions.empty())
      return fail(ErrorCode::not_found, "opening partition " + std::to_string(reference.partition) + " of topic " +
                                            std::string(topic) + ": it was not granted");
    partition = std::move(opened.partitions.front());
  }
  // The name may be another topic's by now.
  if (partition.maps->topic() != reference.topic)
    return fail(ErrorCode::not_found, "opening topic " + std::string(topic) + ": it was deleted and made anew");
  into.stream =
      std::make_unique<PartitionStream>(context_, topic, std::move(partition.maps), CursorLease(), partition.range);
  return {};
}

ReferenceReader::Read ReferenceReader::read(const Reference& reference, std::string_view topic,
                                            const PartitionMapsPtr& open_already, ring::RecordView& record) {
  if (reference.position.value % layout::kRecordAlignment != 0) return Read::gone;
  const std::uint64_t key = std::uint64_t{reference.topic.value} << 32 | reference.partition;
  if (current_ == nullptr || key != current_key_) {
    rest();
    Open& one = open_[key];
    if (one.stream == nullptr) {
      if (!BusLink::online(link_->word()) && open_already == nullptr) return Read::not_now;
      if (Status opened = open(one, reference, topic, open_already); !opened) {
        const ErrorCode code = opened.error().code();
        open_.erase(key);
        if (code == ErrorCode::not_found || code == ErrorCode::closed) return Read::gone;
        if (code == ErrorCode::no_daemon || code == ErrorCode::timed_out || code == ErrorCode::conflict)
          return Read::not_now;
        error_ = std::move(opened).error();
        return Read::failed;
      }
    }
    current_ = one.stream.get();
    current_key_ = key;
  }
  const std::uint64_t expired = context_.counters.expired_messages;
  const Look look = current_->exact(reference.position, record);
  if (context_.counters.expired_messages != expired) return Read::expired;
  if (look == Look::record) return record.position == reference.position ? Read::record : Read::gone;
  if (look == Look::failed) {
    error_ = current_->take_error();
    return Read::failed;
  }
  return current_->position() > reference.position ? Read::gone : Read::not_now;
}

void ReferenceReader::rest() {
  if (current_ != nullptr) current_->rest(true);
  current_ = nullptr;
}

void ReferenceReader::clear() {
  current_ = nullptr;
  open_.clear();
}

}  // namespace sluice::internal
