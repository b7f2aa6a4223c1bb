// A client that means harm on the control channel itself: it speaks Cap'n Proto as any other, and then does not.
//
//   sluice_hostile_wire SOCKET TOPIC KIND SECONDS SEED
//     KIND  frames   conversations as they should be, with bits, words, frames and their order changed
//           forged   proper calls with ids, positions, pins, cells, names and tokens that are not its own
//           flood    descriptors in every message, and connections that say nothing
//           unread   calls without end, whose answers are never read
// One line to stdout: what it did. Exit codes: 0 · 1 it could not even begin · 2 usage.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <capnp/message.h>
#include <capnp/rpc-twoparty.h>
#include <capnp/rpc.capnp.h>
#include <capnp/serialize.h>
#include <kj/async-io.h>

#include "sdk/protocol/control.capnp.h"
#include "shm/base/fd.h"
#include "shm/layout/regions.h"

namespace sluice::test {
namespace {

using Clock = std::chrono::steady_clock;
using Bytes = std::vector<char>;
using namespace std::chrono_literals;

struct Job {
  std::string socket, topic;
  Clock::time_point end;
  std::mt19937_64 random;
};

UniqueFd connect_raw(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  return fd;
}

// A proper client on this thread.
class Rpc {
 public:
  explicit Rpc(UniqueFd socket)
      : io_(kj::setupAsyncIo()),
        stream_(io_.lowLevelProvider->wrapUnixSocketFd(socket.release(), kj::LowLevelAsyncIoProvider::TAKE_OWNERSHIP)),
        client_(*stream_, 16) {}

  protocol::Bus::Client bus() { return client_.bootstrap().castAs<protocol::Bus>(); }
  // Waits for an answer, and not for ever.
  template <typename Promise>
  auto wait(Promise promise) {
    return io_.provider->getTimer().timeoutAfter(10 * kj::SECONDS, kj::mv(promise)).wait(io_.waitScope);
  }
  protocol::Session::Client attach(const std::string& token = {}) {
    auto request = bus().helloRequest();
    auto hello = request.getRequest();
    hello.setProtocolVersion(protocol::PROTOCOL_VERSION);
    hello.setLayoutVersion(layout::kRegionVersion);
    hello.setClientName("hostile");
    hello.setResume(kj::arrayPtr(reinterpret_cast<const kj::byte*>(token.data()), token.size()));
    auto answer = wait(request.send());
    KJ_REQUIRE(answer.getResponse().isWelcome(), "not let in");
    return answer.getResponse().getWelcome().getSession();
  }

 private:
  kj::AsyncIoContext io_;
  kj::Own<kj::AsyncCapabilityStream> stream_;
  capnp::TwoPartyClient client_;
};

// Every call there is; `pick` chooses the numbers.
template <typename Pick>
void call_all(Rpc& rpc, protocol::Session::Client session, const std::string& topic, Pick pick) {
  {
    auto request = session.createTopicRequest();
    auto config = request.initConfig();
    config.setName(topic);
    config.setSegmentSize(64 * 1024);
    config.setSlots(4);
    rpc.wait(request.send());
  }
  {
    auto request = session.openProducerRequest();
    request.getRequest().setTopic(topic);
    request.getRequest().setName("one");
    request.getRequest().setPin(static_cast<std::uint32_t>(pick(0)));
    rpc.wait(request.send());
  }
  {
    auto request = session.openReaderRequest();
    request.getRequest().setTopic(topic);
    auto cursors = request.getRequest().initCursors(2);
    for (auto cursor : cursors) {
      cursor.setPartition(static_cast<std::uint32_t>(pick(0)));
      cursor.setCell(static_cast<std::uint32_t>(pick(1)));
    }
    rpc.wait(request.send());
  }
  {
    auto request = session.openPartitionsRequest();
    request.setTopic(topic);
    request.setFirst(static_cast<std::uint32_t>(pick(0)));
    request.setCount(static_cast<std::uint32_t>(pick(1)));
    rpc.wait(request.send());
  }
  {
    auto request = session.locateRequest();
    request.setTopicId(static_cast<std::uint32_t>(pick(1)));
    request.setPartition(static_cast<std::uint32_t>(pick(0)));
    request.setPosition(pick(0));
    rpc.wait(request.send());
  }
  {
    auto request = session.seekTimeRequest();
    request.setTopicId(static_cast<std::uint32_t>(pick(1)));
    request.setPartition(static_cast<std::uint32_t>(pick(0)));
    request.setTimeNs(pick(0));
    rpc.wait(request.send());
  }
  {
    auto request = session.reportSequencesRequest();
    request.setTopicId(static_cast<std::uint32_t>(pick(1)));
    auto reports = request.initReports(2);
    for (auto report : reports) {
      report.setPartition(static_cast<std::uint32_t>(pick(0)));
      report.setProducerId(static_cast<std::uint32_t>(pick(1)));
      report.setSequence(pick(10));
    }
    rpc.wait(request.send());
  }
  {
    auto request = session.killSessionRequest();
    request.setSessionId(pick(1));
    rpc.wait(request.send());
  }
  {
    auto request = session.alterTopicRequest();
    request.setName(topic);
    request.initChange().setPartitions(static_cast<std::uint32_t>(pick(2)));
    rpc.wait(request.send());
  }
  {
    auto request = session.recoverTopicRequest();
    request.setName(topic);
    request.setPartition(static_cast<std::uint32_t>(pick(0)));
    rpc.wait(request.send());
  }
  {
    auto request = session.endPositionsRequest();
    request.setTopic(topic);
    rpc.wait(request.send());
  }
  {
    auto request = session.auditRequest();
    request.setTopic(topic);
    rpc.wait(request.send());
  }
  rpc.wait(session.statusRequest().send());
  rpc.wait(session.doctorRequest().send());
  rpc.wait(session.listSessionsRequest().send());
  rpc.wait(session.listTopicsRequest().send());
  rpc.wait(session.configRequest().send());
  {
    auto request = session.closeReaderRequest();
    request.setReaderId(pick(1));
    rpc.wait(request.send());
  }
  {
    auto request = session.closeProducerRequest();
    request.setProducerId(static_cast<std::uint32_t>(pick(1)));
    rpc.wait(request.send());
  }
  {
    auto request = session.deleteTopicRequest();
    request.setName(topic);
    rpc.wait(request.send());
  }
}

// ---- frames

// What a proper client writes in a conversation, cut into Cap'n Proto's frames.
std::vector<Bytes> record(const Job& job) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return {};
  UniqueFd ours(ends[0]), theirs(ends[1]), daemon = connect_raw(job.socket);
  Bytes said;
  std::thread relay([&] {
    char buffer[65536];
    for (;;) {
      pollfd waiting[2] = {{ours.get(), POLLIN, 0}, {daemon.get(), POLLIN, 0}};
      if (::poll(waiting, 2, -1) < 0) return;
      for (int side = 0; side < 2; ++side) {
        if (waiting[side].revents == 0) continue;
        // Without room for descriptors the kernel drops them: nobody needs them here.
        const ssize_t got = ::recv(waiting[side].fd, buffer, sizeof buffer, 0);
        if (got <= 0) return;
        if (side == 0) said.insert(said.end(), buffer, buffer + got);
        if (::send(waiting[1 - side].fd, buffer, static_cast<std::size_t>(got), MSG_NOSIGNAL) != got) return;
      }
    }
  });
  try {
    Rpc rpc(std::move(theirs));
    call_all(rpc, rpc.attach(), "hostile", [](std::uint64_t usual) { return usual; });
  } catch (const kj::Exception& exception) {
    std::printf("the conversation broke off: %s\n", exception.getDescription().cStr());
  }
  relay.join();
  std::vector<Bytes> frames;
  for (std::size_t at = 0; at + 8 <= said.size();) {
    std::uint32_t count = 0, words = 0;
    std::memcpy(&count, &said[at], sizeof count);
    std::size_t size = (4 * (std::size_t{count} + 2)) / 8 * 8;
    for (std::uint32_t i = 0; i <= count; ++i) {
      std::memcpy(&words, &said[at + 4 * (i + 1)], sizeof words);
      size += std::size_t{words} * 8;
    }
    if (at + size > said.size()) break;
    frames.emplace_back(said.begin() + static_cast<std::ptrdiff_t>(at),
                        said.begin() + static_cast<std::ptrdiff_t>(at + size));
    at += size;
  }
  return frames;
}

void put_word(Bytes& frame, std::size_t word, std::uint64_t value) {
  std::memcpy(&frame[word * 8], &value, sizeof value);
}

std::uint64_t word_of(const Bytes& frame, std::size_t word) {
  std::uint64_t value = 0;
  std::memcpy(&value, &frame[word * 8], sizeof value);
  return value;
}

void mutate(std::vector<Bytes>& frames, std::mt19937_64& random) {
  // The first two let it in; what comes after reaches further if they are whole.
  const std::size_t first = random() % 10 == 0 ? 0 : std::min<std::size_t>(2, frames.size() - 1);
  const std::size_t index = first + random() % (frames.size() - first);
  Bytes& frame = frames[index];
  const std::size_t words = frame.size() / 8;
  const std::size_t word = words > 1 && random() % 16 != 0 ? 1 + random() % (words - 1) : 0;
  constexpr std::uint64_t kBoundaries[] = {0, 1, UINT64_MAX, UINT32_MAX, std::uint64_t{1} << 63, 0x7fffffffffffffff};
  switch (random() % 9) {
    case 0:
    case 1:
    case 2: frame[word * 8 + random() % 8] ^= static_cast<char>(1 << random() % 8); return;
    case 3:
      put_word(frame, word, random() % 2 == 0 ? kBoundaries[random() % std::size(kBoundaries)] : random());
      return;
    case 4: put_word(frame, word, word_of(frame, word) + random() % 64 - 32); return;
    case 5: {
      const Bytes& other = frames[random() % frames.size()];
      return put_word(frame, word, word_of(other, random() % (other.size() / 8)));
    }
    case 6: std::swap(frame, frames[first + random() % (frames.size() - first)]); return;
    case 7: frames.insert(frames.begin() + static_cast<std::ptrdiff_t>(index), Bytes(frame)); return;
    default: frame.resize(8 * (1 + random() % words)); return;
  }
}

// Sends it all and listens for a moment.
void play(const Job& job, const std::vector<Bytes>& frames) {
  const UniqueFd fd = connect_raw(job.socket);
  if (!fd) return std::this_thread::sleep_for(10ms);
  char buffer[65536];
  for (const Bytes& frame : frames) {
    if (::send(fd.get(), frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return;
    while (::recv(fd.get(), buffer, sizeof buffer, MSG_DONTWAIT) > 0) {
    }
  }
  pollfd waiting{fd.get(), POLLIN, 0};
  while (::poll(&waiting, 1, 3) > 0 && ::recv(fd.get(), buffer, sizeof buffer, MSG_DONTWAIT) > 0) {
  }
}

int send_frames(Job& job) {
  const std::vector<Bytes> proper = record(job);
  if (proper.size() < 10) return 1;
  std::uint64_t conversations = 0;
  for (; Clock::now() < job.end; ++conversations) {
    std::vector<Bytes> frames = proper;
    do mutate(frames, job.random);
    while (job.random() % 3 == 0);
    play(job, frames);
  }
  std::printf("frames: %llu conversations of %zu frames\n", static_cast<unsigned long long>(conversations),
              proper.size());
  return 0;
}

// ---- forged

int forge(Job& job) {
  std::uint64_t rounds = 0, cut = 0;
  const auto pick = [&](std::uint64_t usual) -> std::uint64_t {
    switch (job.random() % 6) {
      case 0: return usual;
      case 1: return job.random() % 8;
      case 2: return job.random() % 1024;
      case 3: return job.random();
      case 4: return UINT64_MAX >> (job.random() % 64);
      default: return std::uint64_t{1} << (job.random() % 64);
    }
  };
  while (Clock::now() < job.end) {
    try {
      Rpc rpc(connect_raw(job.socket));
      std::string token(job.random() % 64, '\0');
      for (char& byte : token) byte = static_cast<char>(job.random());
      auto session = rpc.attach(token);
      for (int i = 0; i < 20 && Clock::now() < job.end; ++i, ++rounds)
        call_all(rpc, session, job.random() % 2 == 0 ? job.topic : "hostile", pick);
    } catch (const kj::Exception&) {
      ++cut;
      std::this_thread::sleep_for(1ms);
    }
  }
  std::printf("forged: %llu rounds of all calls, %llu times hung up on\n", static_cast<unsigned long long>(rounds),
              static_cast<unsigned long long>(cut));
  return 0;
}

// ---- flood

void send_descriptors(int fd, std::size_t count) {
  std::vector<int> fds(count, fd);
  Bytes bytes(8, '\0');
  iovec data{bytes.data(), bytes.size()};
  std::vector<char> control(CMSG_SPACE(count * sizeof(int)));
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(count * sizeof(int));
  std::memcpy(CMSG_DATA(rights), fds.data(), count * sizeof(int));
  static_cast<void>(::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
}

int flood(Job& job) {
  constexpr std::size_t kConnections = 64;
  constexpr std::size_t kDescriptorsMax = 253;  // of one message, says the kernel
  std::uint64_t messages = 0;
  std::vector<UniqueFd> held;
  while (Clock::now() < job.end) {
    UniqueFd fd = connect_raw(job.socket);
    if (fd) {
      for (int i = 0; i < 32; ++i, ++messages) send_descriptors(fd.get(), 1 + job.random() % kDescriptorsMax);
      held.push_back(std::move(fd));
    }
    if (held.size() > kConnections) held.erase(held.begin(), held.begin() + kConnections / 2);
    std::this_thread::sleep_for(1ms);
  }
  std::printf("flood: %llu messages with descriptors\n", static_cast<unsigned long long>(messages));
  return 0;
}

// ---- unread

Bytes call_frame(std::uint32_t question, std::uint32_t target, std::uint64_t interface, std::uint16_t method) {
  capnp::MallocMessageBuilder builder;
  auto call = builder.initRoot<capnp::rpc::Message>().initCall();
  call.setQuestionId(question);
  call.initTarget().setImportedCap(target);
  call.setInterfaceId(interface);
  call.setMethodId(method);
  call.initParams();
  const auto flat = capnp::messageToFlatArray(builder);
  const auto bytes = flat.asBytes();
  return Bytes(bytes.begin(), bytes.end());
}

int never_read(Job& job) {
  std::vector<Bytes> proper = record(job);
  if (proper.size() < 3) return 1;
  proper.resize(2);  // the bootstrap, and hello
  constexpr std::uint16_t kStatus = 15, kDoctor = 16;
  constexpr std::uint64_t kCallsMax = 200'000;  // of one connection
  std::uint64_t calls = 0, connections = 0;
  while (Clock::now() < job.end) {
    const UniqueFd fd = connect_raw(job.socket);
    if (!fd) continue;
    ++connections;
    for (const Bytes& frame : proper) static_cast<void>(::send(fd.get(), frame.data(), frame.size(), MSG_NOSIGNAL));
    std::this_thread::sleep_for(20ms);
    for (std::uint32_t question = 100; question < kCallsMax && Clock::now() < job.end; ++question) {
      // The session is one of the first capabilities that it was given; calls to the others are answered too.
      const Bytes frame = call_frame(question, static_cast<std::uint32_t>(job.random() % 3),
                                     capnp::typeId<protocol::Session>(), question % 2 == 0 ? kStatus : kDoctor);
      pollfd waiting{fd.get(), POLLOUT, 0};
      if (::poll(&waiting, 1, 1000) <= 0) break;
      if (::send(fd.get(), frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN) break;
      ++calls;
    }
  }
  std::printf("unread: %llu calls on %llu connections\n", static_cast<unsigned long long>(calls),
              static_cast<unsigned long long>(connections));
  return 0;
}

int run(const std::string& kind, Job job) {
  if (kind == "frames") return send_frames(job);
  if (kind == "forged") return forge(job);
  if (kind == "flood") return flood(job);
  if (kind == "unread") return never_read(job);
  return 2;
}

}  // namespace
}  // namespace sluice::test

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  using namespace sluice::test;
  try {
    return run(argv[3], Job{argv[1], argv[2], Clock::now() + std::chrono::seconds(std::atoi(argv[4])),
                            std::mt19937_64(std::strtoull(argv[5], nullptr, 10))});
  } catch (const kj::Exception& exception) {
    std::printf("%s\n", exception.getDescription().cStr());
    return 1;
  }
}
