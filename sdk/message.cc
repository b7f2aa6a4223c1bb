#include "sluice/message.h"

#include "sdk/hold.h"
#include "shm/layout/trailer.h"

namespace sluice {

std::string Address::to_string() const {
  std::string text(topic);
  text += '/';
  text += std::to_string(partition);
  text += '@';
  text += std::to_string(position.value);
  return text;
}

// at_ is the rest of the trailer that starts with the current header; its end is one past the last byte. The reader of
// shm/layout wants the trailer's size field in front of what it walks, so that each step starts four bytes before.
namespace {
constexpr std::size_t kSizeField = 4;
constexpr std::size_t kEntryHeaderSize = 4;

std::optional<layout::TrailerEntry> entry_at(const std::byte* at, const std::byte* end) {
  if (at == nullptr || at >= end) return std::nullopt;
  return layout::TrailerReader({at - kSizeField, end}).next();
}
const std::byte* behind(const layout::TrailerEntry& entry) {
  return entry.bytes.data() + ((entry.bytes.size() + 3) & ~std::size_t{3});
}
}  // namespace

// Moves on to the first header entry at or behind at_; at_ is null when there is none.
void HeaderRange::Iterator::find() {
  while (auto entry = entry_at(at_, end_)) {
    if (entry->type == layout::TrailerType::header) {
      if (const auto header = layout::as_header(entry->bytes)) {
        current_ = *header;
        return;
      }
    }
    at_ = behind(*entry);
  }
  at_ = nullptr;
}

HeaderRange::Iterator& HeaderRange::Iterator::operator++() {
  // The bytes may be a hostile peer's: what stood there at find() is what counts, so go on from it.
  const auto* value_end = reinterpret_cast<const std::byte*>(current_.second.data() + current_.second.size());
  const std::size_t size = static_cast<std::size_t>(value_end - (at_ + kEntryHeaderSize));
  at_ += kEntryHeaderSize + ((size + 3) & ~std::size_t{3});
  find();
  return *this;
}

HeaderRange::Iterator HeaderRange::begin() const {
  Iterator iterator;
  if (trailer_.size() > kSizeField) {
    iterator.at_ = trailer_.data() + kSizeField;
    iterator.end_ = trailer_.data() + trailer_.size();
    iterator.find();
  }
  return iterator;
}
HeaderRange::Iterator HeaderRange::end() const { return {}; }

Message::Message(const Message& other) noexcept
    : hold_(other.hold_),
      payload_(other.payload_),
      payload_size_(other.payload_size_),
      trailer_(other.trailer_),
      topic_(other.topic_),
      partition_(other.partition_),
      producer_(other.producer_),
      position_(other.position_),
      origin_(other.origin_),
      sequence_(other.sequence_),
      time_ns_(other.time_ns_) {
  internal::retain(hold_);
}

Message::Message(Message&& other) noexcept
    : hold_(std::exchange(other.hold_, nullptr)),
      payload_(std::exchange(other.payload_, nullptr)),
      payload_size_(std::exchange(other.payload_size_, 0)),
      trailer_(std::exchange(other.trailer_, {})),
      topic_(other.topic_),
      partition_(other.partition_),
      producer_(other.producer_),
      position_(other.position_),
      origin_(other.origin_),
      sequence_(other.sequence_),
      time_ns_(other.time_ns_) {}

Message& Message::operator=(const Message& other) noexcept {
  if (this != &other) *this = Message(other);
  return *this;
}

Message& Message::operator=(Message&& other) noexcept {
  if (this == &other) return *this;
  internal::release(hold_);
  hold_ = std::exchange(other.hold_, nullptr);
  payload_ = std::exchange(other.payload_, nullptr);
  payload_size_ = std::exchange(other.payload_size_, 0);
  trailer_ = std::exchange(other.trailer_, {});
  topic_ = other.topic_;
  partition_ = other.partition_;
  producer_ = other.producer_;
  position_ = other.position_;
  origin_ = other.origin_;
  sequence_ = other.sequence_;
  time_ns_ = other.time_ns_;
  return *this;
}

Message::~Message() { internal::release(hold_); }

std::string_view Message::key() const {
  return layout::as_text(layout::find_entry(trailer_, layout::TrailerType::key));
}
std::string_view Message::tag() const {
  return layout::as_text(layout::find_entry(trailer_, layout::TrailerType::tag));
}
std::string_view Message::bookmark() const {
  return layout::as_text(layout::find_entry(trailer_, layout::TrailerType::bookmark));
}

HeaderRange Message::headers() const {
  HeaderRange range;
  range.trailer_ = trailer_;
  return range;
}

std::optional<std::string_view> Message::header(std::string_view name) const {
  for (const auto& [header_name, value] : headers()) {
    if (header_name == name) return value;
  }
  return std::nullopt;
}

bool Message::valid() const {
  if (hold_ == nullptr) return false;
  return hold_->file != nullptr || !hold_->pin.memory()->revoked();
}

}  // namespace sluice
