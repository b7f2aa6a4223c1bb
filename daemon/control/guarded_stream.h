// A client's stream that asks before each read whether to go on: so that a client whose answers pile up, because it
// never reads them, is not listened to any more.
//
// Owner: the control thread. Everything but reading goes straight through to the stream inside.
#pragma once

#include <functional>
#include <utility>

#include <kj/async-io.h>

namespace sluice::control {

class GuardedStream final : public kj::AsyncCapabilityStream {
 public:
  explicit GuardedStream(kj::Own<kj::AsyncCapabilityStream> inner) : inner_(kj::mv(inner)) {}
  // Asked before each read. Once it says no, the stream gives nothing more: whoever said so closes it.
  void guard(std::function<bool()> may_read) { may_read_ = std::move(may_read); }

  kj::Promise<std::size_t> tryRead(void* buffer, std::size_t min_bytes, std::size_t max_bytes) override {
    if (refused()) return kj::NEVER_DONE;
    return inner_->tryRead(buffer, min_bytes, max_bytes);
  }
  kj::Promise<ReadResult> tryReadWithFds(void* buffer, std::size_t min_bytes, std::size_t max_bytes,
                                         kj::AutoCloseFd* fds, std::size_t max_fds) override {
    if (refused()) return kj::NEVER_DONE;
    return inner_->tryReadWithFds(buffer, min_bytes, max_bytes, fds, max_fds);
  }
  kj::Promise<ReadResult> tryReadWithStreams(void* buffer, std::size_t min_bytes, std::size_t max_bytes,
                                             kj::Own<kj::AsyncCapabilityStream>* streams,
                                             std::size_t max_streams) override {
    if (refused()) return kj::NEVER_DONE;
    return inner_->tryReadWithStreams(buffer, min_bytes, max_bytes, streams, max_streams);
  }

  kj::Promise<void> write(const void* buffer, std::size_t size) override { return inner_->write(buffer, size); }
  kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override {
    return inner_->write(pieces);
  }
  kj::Promise<void> writeWithFds(kj::ArrayPtr<const kj::byte> data,
                                 kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> more,
                                 kj::ArrayPtr<const int> fds) override {
    return inner_->writeWithFds(data, more, fds);
  }
  kj::Promise<void> writeWithStreams(kj::ArrayPtr<const kj::byte> data,
                                     kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> more,
                                     kj::Array<kj::Own<kj::AsyncCapabilityStream>> streams) override {
    return inner_->writeWithStreams(data, more, kj::mv(streams));
  }
  kj::Promise<void> whenWriteDisconnected() override { return inner_->whenWriteDisconnected(); }
  void shutdownWrite() override { inner_->shutdownWrite(); }
  void abortRead() override { inner_->abortRead(); }
  kj::Maybe<int> getFd() const override { return inner_->getFd(); }

 private:
  bool refused() const { return may_read_ && !may_read_(); }

  kj::Own<kj::AsyncCapabilityStream> inner_;
  std::function<bool()> may_read_;
};

}  // namespace sluice::control
