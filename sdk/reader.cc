#include "sluice/reader.h"

#include <utility>

#include "sdk/reader_core.h"

namespace sluice {

Reader::Reader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Reader::Reader(Reader&&) noexcept = default;
Reader& Reader::operator=(Reader&&) noexcept = default;
Reader::~Reader() = default;

Result<Message> Reader::next(Duration timeout) { return impl_->core->next(timeout); }

Result<std::size_t> Reader::poll(std::size_t count, Duration timeout,
                                 const std::function<void(const Message&)>& handler) {
  return impl_->core->poll(count, timeout, handler);
}

Position Reader::position(std::string_view topic, PartitionNumber partition) const {
  return impl_->core->position(topic, partition);
}

Status Reader::seek(std::string_view topic, PartitionNumber partition, Position at) {
  return impl_->core->seek(topic, partition, at);
}

bool Reader::at_initial_end() const { return impl_->core->at_initial_end(); }

const ReaderCounters& Reader::counters() const { return impl_->core->counters(); }

}  // namespace sluice
