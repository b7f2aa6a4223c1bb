#include "daemon/keep/notify_store.h"

#include <fcntl.h>
#include <poll.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <string_view>

#include "shm/base/assert.h"
#include "shm/base/failpoint.h"

namespace sluice::keep {
namespace {

constexpr int kBarrierTimeoutMs = 10'000;

std::uint64_t capacity_in_environment() {
  for (const char* name : {"FDSTORE", "SLUICE_FDSTORE_MAX"}) {
    const char* text = ::getenv(name);
    if (text == nullptr) continue;
    const std::string_view digits(text);
    std::uint64_t capacity = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), capacity);
    if (error == std::errc() && end == digits.data() + digits.size()) return capacity;
  }
  return 0;
}

Status send(const std::string& state, const int* fds, unsigned count) {
  const int sent = ::sd_pid_notify_with_fds(0, 0, state.c_str(), fds, count);
  if (sent > 0) return {};
  const std::string doing = "telling the service manager " + state.substr(0, state.find('\n'));
  if (sent == 0) return fail(ErrorCode::io, doing + ": NOTIFY_SOCKET is not set");
  return fail(system_error(-sent, doing));
}

}  // namespace

bool NotifyStore::is_in_environment() { return ::getenv("NOTIFY_SOCKET") != nullptr && capacity_in_environment() != 0; }

std::unique_ptr<NotifyStore> NotifyStore::from_environment(Inheritance& inherited) {
  char** names = nullptr;
  const int count = ::sd_listen_fds_with_names(1, &names);
  for (int i = 0; i < count; ++i) {
    inherited[names[i]] = UniqueFd(SD_LISTEN_FDS_START + i);
    ::free(names[i]);  // NOLINT: malloc'ed by the library
  }
  ::free(names);  // NOLINT
  if (!is_in_environment()) return nullptr;
  std::unique_ptr<NotifyStore> store(new NotifyStore(std::min(capacity_in_environment(), kHeldMax)));
  for (const auto& [name, fd] : inherited) store->names_.insert(name);
  return store;
}

Status NotifyStore::keep(const std::string& name, int fd) {
  SLUICE_ASSERT(name.size() <= kHeldNameMax);
  settle();
  if (undropped_.count(name) != 0)  // its removal, said later, would take this one
    return fail(ErrorCode::io, "keeping " + name + " over restarts: the manager does not take that the last one goes");
  if (names_.count(name) == 0 && held() >= capacity_)
    return fail(ErrorCode::quota, "keeping " + name + " over restarts: the store of " + std::to_string(capacity_) +
                                      " descriptors is full");
  SLUICE_TRY(send("FDSTORE=1\nFDPOLL=0\nFDNAME=" + name, &fd, 1));
  names_.insert(name);
  SLUICE_FAILPOINT("keep.sent");
  return {};
}

void NotifyStore::drop(const std::string& name) {
  if (names_.erase(name) == 0) return;
  undropped_.insert(name);
  settle();
}

void NotifyStore::settle() {
  while (!undropped_.empty() && send("FDSTOREREMOVE=1\nFDNAME=" + *undropped_.begin(), nullptr, 0))
    undropped_.erase(undropped_.begin());
}

void NotifyStore::drop_all_but(const std::set<std::string>& names) {
  const std::set<std::string> held = names_;
  for (const std::string& name : held)
    if (names.count(name) == 0) drop(name);
}

Result<UniqueFd> NotifyStore::begin_barrier() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    return fail(system_error(errno, "making a pipe for the service manager's answer"));
  UniqueFd answer(ends[0]);
  const UniqueFd question(ends[1]);
  const int fd = question.get();
  SLUICE_TRY(send("BARRIER=1", &fd, 1));
  return answer;
}

Status NotifyStore::barrier() {
  SLUICE_ASSIGN(const UniqueFd answer, begin_barrier());
  pollfd waiting{answer.get(), POLLIN, 0};
  int ready = 0;
  do {
    ready = ::poll(&waiting, 1, kBarrierTimeoutMs);
  } while (ready < 0 && errno == EINTR);
  if (ready > 0) return {};
  return fail(ErrorCode::timed_out, "waiting until the service manager holds what was given to it: no answer");
}

}  // namespace sluice::keep
