// A message as a consumer sees it: a view of the bytes where the producer wrote them, in shared memory or in a log
// file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "shm/base/result.h"
#include "shm/base/types.h"
#include "sluice/export.h"

namespace sluice {

// "topic/partition@position": where a message stands, for ever.
struct SLUICE_EXPORT Address {
  std::string_view topic;
  PartitionNumber partition = 0;
  Position position;
  std::string to_string() const;
};

// Walks over a message's application headers. Valid as long as the message.
class SLUICE_EXPORT HeaderRange {
 public:
  class SLUICE_EXPORT Iterator {
   public:
    using value_type = std::pair<std::string_view, std::string_view>;  // name, value
    using difference_type = std::ptrdiff_t;
    value_type operator*() const { return current_; }
    Iterator& operator++();
    Iterator operator++(int) {
      Iterator before = *this;
      ++*this;
      return before;
    }
    bool operator==(const Iterator& other) const { return at_ == other.at_; }

   private:
    friend class HeaderRange;
    void find();
    const std::byte* at_ = nullptr;
    const std::byte* end_ = nullptr;
    value_type current_;
  };
  Iterator begin() const;
  Iterator end() const;

 private:
  friend class Message;
  std::span<const std::byte> trailer_;
};

namespace internal {
struct Hold;  // what keeps the bytes of a segment where they are; counted
SLUICE_EXPORT void retain(Hold* hold);
SLUICE_EXPORT void release(Hold* hold);
struct MessageAccess;
}  // namespace internal

// A zero-copy view. Its life pins the segment that holds the bytes: keep it as long as you read them, and no longer (a
// session may hold a limited number of segments; kept beyond it, the session is revoked and valid() turns false).
// Copying and moving are cheap and allocate nothing. Thread safety: one thread at a time; it may be handed to another
// thread and destroyed there. It must not outlive its Reader's Client.
class SLUICE_EXPORT Message {
 public:
  Message() = default;
  Message(const Message& other) noexcept;
  Message(Message&& other) noexcept;
  Message& operator=(const Message& other) noexcept;
  Message& operator=(Message&& other) noexcept;
  ~Message();

  // The bytes as written. Units: bytes. Never null for a message that next() or poll() gave.
  std::span<const std::byte> payload() const { return {payload_, payload_size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(payload_), payload_size_}; }

  std::string_view topic() const { return topic_; }
  PartitionNumber partition() const { return partition_; }
  Position position() const { return position_; }
  // Where its bytes stand: position(), but for a delayed message or one of a transaction, which is delivered where the
  // daemon says so. The same with every delivery.
  Position origin() const { return origin_; }
  Address address() const { return {topic_, partition_, position_}; }
  ProducerId producer() const { return producer_; }
  // Contiguous per producer and partition, from 1.
  Sequence sequence() const { return sequence_; }
  // When it was sent: ns since the epoch, 0 if the topic keeps no time.
  std::uint64_t time_ns() const { return time_ns_; }
  std::string_view key() const;  // empty if there is none
  std::string_view tag() const;  // empty if there is none
  HeaderRange headers() const;
  std::optional<std::string_view> header(std::string_view name) const;
  std::string_view bookmark() const;
  // False once the session was revoked or the memory lost: the bytes may be another message's by now.
  bool valid() const;

 private:
  friend struct internal::MessageAccess;
  internal::Hold* hold_ = nullptr;
  const std::byte* payload_ = nullptr;
  std::size_t payload_size_ = 0;
  std::span<const std::byte> trailer_;
  std::string_view topic_;
  PartitionNumber partition_ = 0;
  ProducerId producer_;
  Position position_;
  Position origin_;
  Sequence sequence_;
  std::uint64_t time_ns_ = 0;
};

}  // namespace sluice
