// A queue whose elements keep their number (counted from the first that was ever pushed) until they are popped.
// Allocates only when it is longer than ever before. Owner: one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace sluice::internal {

template <typename T>
class GrowRing {
 public:
  bool empty() const { return begin_ == end_; }
  std::size_t size() const { return end_ - begin_; }
  std::uint64_t begin() const { return begin_; }
  std::uint64_t end() const { return end_; }
  // begin() <= number < end().
  T& at(std::uint64_t number) { return elements_[number & (elements_.size() - 1)]; }
  const T& at(std::uint64_t number) const { return elements_[number & (elements_.size() - 1)]; }

  std::uint64_t push(T element) {
    push_slot() = std::move(element);
    return end_ - 1;
  }
  // The new last element, which holds what was there before: the caller sets all of it.
  T& push_slot() {
    if (size() == elements_.size()) [[unlikely]]
      grow();
    return at(end_++);
  }
  void pop() { ++begin_; }
  void clear() { begin_ = end_; }

 private:
  static constexpr std::size_t kFirst = 64;  // a power of two

  void grow() {
    std::vector<T> larger(elements_.size() * 2);
    for (std::uint64_t number = begin_; number != end_; ++number)
      larger[number & (larger.size() - 1)] = std::move(at(number));
    elements_ = std::move(larger);
  }

  std::vector<T> elements_ = std::vector<T>(kFirst);
  std::uint64_t begin_ = 0;
  std::uint64_t end_ = 0;
};

}  // namespace sluice::internal
