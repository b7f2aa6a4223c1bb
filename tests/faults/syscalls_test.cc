// System calls of the daemon that fail: out of descriptors, out of memory. Whatever it was doing is refused with the
// reason or done all the same, the daemon goes on, nothing is held on to, and the same thing works when it is repeated.
// With strace each call site once; with a real limit on descriptors for as long as that lasts.
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/crash/daemon_process.h"
#include "tests/crash/results.h"
#include "tests/faults/loop_device.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

struct Injected {
  const char* call;
  const char* error_name;
  int error;
  bool long_only = false;  // at the same places as another one
  bool cuts = false;       // may end the connection: the client is told that instead of the reason
};

// What the daemon calls while it serves clients. Those that write and sync have drivers of their own.
const std::vector<Injected> kInjected = {
    {"memfd_create", "EMFILE", EMFILE},
    {"memfd_create", "ENOMEM", ENOMEM, true},
    {"fchmod", "EPERM", EPERM, true},
    {"ftruncate", "ENOMEM", ENOMEM, true},
    {"mmap", "ENOMEM", ENOMEM},
    {"accept4", "EMFILE", EMFILE},
    {"openat", "EMFILE", EMFILE},
    {"openat", "ENFILE", ENFILE, true},
    {"fcntl", "EMFILE", EMFILE},
    {"pipe2", "EMFILE", EMFILE},
    {"fallocate", "ENOMEM", ENOMEM},
    {"flock", "ENOLCK", ENOLCK},
    {"getrandom", "EAGAIN", EAGAIN},
    {"epoll_ctl", "ENOMEM", ENOMEM, false, true},
    {"epoll_ctl", "ENOSPC", ENOSPC, true, true},
    {"getsockopt", "ENOBUFS", ENOBUFS, false, true},
    {"sendmsg", "ENOBUFS", ENOBUFS, false, true},
    {"recvmsg", "ENOMEM", ENOMEM, true, true},
    {"madvise", "ENOMEM", ENOMEM},
};

std::string slurp(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

std::size_t descriptors_of(pid_t pid) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd"))
    ++count;
  return count;
}

// strace, attached to a daemon: the n-th call of each of its threads fails from now on.
class Injection {
 public:
  Injection(const std::filesystem::path& folder, pid_t pid, const Injected& what, std::uint64_t n)
      : trace_(folder / "strace.out") {
    std::filesystem::remove(trace_);
    const std::filesystem::path log = folder / "strace.log";
    std::filesystem::remove(log);
    Process::Options options;
    options.log = log;
    const std::string call = what.call;
    process_ = Process::start(
        {"/usr/bin/strace", "-f", "-o", trace_, "-e", "trace=" + call, "-e",
         "inject=" + call + ":error=" + what.error_name + ":when=" + std::to_string(n), "-p", std::to_string(pid)},
        options);
    attached_ = wait_until([&] { return slurp(log).find(" attached") != std::string::npos || process_.poll(); }) &&
                process_.running();
  }
  bool attached() const { return attached_; }
  // Ends it; the lines of the calls that failed for it.
  std::string end() {
    process_.signal(SIGINT);
    static_cast<void>(process_.wait());
    std::istringstream lines(slurp(trace_));
    std::string injected;
    for (std::string line; std::getline(lines, line);)
      if (line.find("(INJECTED)") != std::string::npos) injected += line + "\n";
    return injected;
  }

 private:
  const std::filesystem::path trace_;
  Process process_;
  bool attached_ = false;
};

// All that a client has a daemon do, up to the first thing that it is refused.
class Visit {
 public:
  Visit(const TestDaemon& daemon, std::string topic) : daemon_(daemon), topic_(std::move(topic)) {}

  Status run() {
    SLUICE_TRY(connect());
    SLUICE_TRY(create());
    SLUICE_TRY(publish());
    SLUICE_TRY(consume());
    SLUICE_TRY(client_->status().map([](const auto&) {}));
    SLUICE_TRY(client_->audit(topic_).map([](const auto&) {}));
    TopicChange more;
    more.partitions = kPartitions + 1;
    step_ = "alter";
    SLUICE_TRY(client_->alter_topic(topic_, more));
    step_ = "delete";
    return client_->delete_topic(topic_);
  }
  // What it was doing.
  const std::string& step() const { return step_; }

 private:
  static constexpr std::uint32_t kPartitions = 2;
  static constexpr std::uint64_t kSegmentSize = 64 * 1024;
  static constexpr std::uint64_t kMessages = 30;  // of 12,000 bytes: over the end of a file, and of the ring

  Status connect() {
    step_ = "connect";
    ConnectOptions options;
    options.socket = daemon_.socket();
    options.client_name = "visitor";
    options.timeout = options.control_timeout = 10s;
    SLUICE_ASSIGN(client_, Client::connect(options));
    return {};
  }
  Status create() {
    step_ = "create";
    TopicConfig config;
    config.name = topic_;
    config.partitions = kPartitions;
    config.durability = Durability::sync;
    config.segment_size = kSegmentSize;
    config.slots = 4;
    return client_->create_topic(config);
  }
  Status publish() {
    step_ = "producer";
    ProducerOptions options;
    options.name = "visitor";
    options.send_timeout = 10s;
    SLUICE_ASSIGN(Producer producer, client_->producer(topic_, options));
    step_ = "send";
    const std::string payload(12'000, 'x');
    for (std::uint64_t i = 0; i < kMessages; ++i) {
      MessageOptions to;
      to.partition = 0;
      SLUICE_TRY(producer.send_async(payload, to).map([](const Receipt&) {}));
    }
    step_ = "flush";
    return producer.flush(10s);
  }
  Status consume() {
    step_ = "reader";
    ReaderOptions options;
    options.from = From::earliest();
    SLUICE_ASSIGN(Reader reader, client_->reader({topic_}, options));
    step_ = "read";
    for (std::uint64_t i = 0; i < kMessages; ++i) SLUICE_TRY(reader.next(10s).map([](const Message&) {}));
    return {};
  }

  const TestDaemon& daemon_;
  const std::string topic_;
  std::optional<Client> client_;
  std::string step_;
};

bool can_trace() {
  try {
    return run_command({"strace", "-c", "true"}).exit_code == 0;
  } catch (const std::exception&) {
    return false;
  }
}

class Syscalls : public testing::Test {
 protected:
  // It is not about a disk, and in memory it is quick.
  static void SetUpTestSuite() {
    if (::access("/dev/shm", W_OK) == 0) ::setenv("TMPDIR", "/dev/shm", 0);
  }

  void SetUp() override {
    daemon_.use_keeper();
    daemon_.configure("[topics]\nsegments_per_file = 2\n");
    ASSERT_TRUE(daemon_.start()) << daemon_.log_tail();
    Client client = daemon_.connect();
    pid_ = client.status().value().pid;
  }

  void visit_undisturbed() {
    Visit visit(daemon_, next_topic());
    const Status status = visit.run();
    ASSERT_TRUE(status.has_value()) << visit.step() << ": " << status.error().message() << "\n" << daemon_.log_tail();
  }

  std::string next_topic() { return "topic-" + std::to_string(++visits_); }

  // What a visit that failed half-way has left behind.
  void clean_up() {
    Client client = daemon_.connect();
    const auto topics = client.topics();
    ASSERT_TRUE(topics.has_value()) << topics.error().message();
    for (const TopicInfo& topic : *topics) {
      const Status deleted = client.delete_topic(topic.config.name);
      ASSERT_TRUE(deleted.has_value()) << deleted.error().message();
    }
  }

  // Nobody else is attached, and nothing is deleted in part: what the daemon and its keeper hold then.
  std::pair<std::size_t, std::size_t> held(Client& client) {
    std::pair<std::size_t, std::size_t> now;
    wait_until([&] {
      const auto sessions = client.sessions();
      if (!sessions || sessions->size() != 1) return false;
      const auto before = std::exchange(now, {descriptors_of(pid_), descriptors_of(daemon_.process().pid())});
      std::this_thread::sleep_for(20ms);
      return before == now;
    });
    return now;
  }

  // A visit during which the n-th of these calls fails. False if there were fewer.
  bool visit_injected(const Injected& what, std::uint64_t n, Counts& counts) {
    Injection injection(daemon_.folder(), pid_, what, n);
    EXPECT_TRUE(injection.attached()) << slurp(daemon_.folder() / "strace.log");
    Visit visit(daemon_, next_topic());
    const Status status = visit.run();
    const std::string injected = injection.end();
    if (injected.empty()) return false;
    const std::string about = "at " + visit.step() + " with " + injected;
    ++counts["failed calls"];
    if (!status) {
      ++counts["refused"];
      const Error& error = status.error();
      const bool cut = error.code() == ErrorCode::unknown || error.code() == ErrorCode::no_daemon;
      EXPECT_NE(ErrorCode::internal, error.code()) << error.message();
      EXPECT_TRUE((what.cuts && cut) || error.message().find(std::strerror(what.error)) != std::string::npos)
          << error.message();
      clean_up();
      visit_undisturbed();
    }
    if (HasFailure()) ADD_FAILURE() << about << daemon_.log_tail();
    return true;
  }

  TestDaemon daemon_;
  pid_t pid_ = -1;
  int visits_ = 0;
};

TEST_F(Syscalls, EachFailsOnceAndIsSurvived) {
  if (!can_trace()) GTEST_SKIP() << "strace is not there, or may not trace";
  ASSERT_NO_FATAL_FAILURE(visit_undisturbed());
  Client client = daemon_.connect();
  const auto before = held(client);
  std::vector<Injected> injected = kInjected;
  if (!long_run()) std::erase_if(injected, [](const Injected& what) { return what.long_only; });
  // A round is one call with one error, at each place where a visit passes it.
  run_rounds({"failing_syscalls", injected.size(), 50 * injected.size(), 90}, [&](std::uint64_t seed, Counts& counts) {
    const Injected& what = injected[(seed - 1) % injected.size()];
    const std::uint64_t so_far = counts["failed calls"];
    for (std::uint64_t n = 1; visit_injected(what, n, counts) && !HasFailure();) ++n;
    std::printf("  %s %s: %llu calls\n", what.call, what.error_name,
                static_cast<unsigned long long>(counts["failed calls"] - so_far));
    EXPECT_EQ(pid_, client.status().value().pid) << "another daemon: the first has died\n" << daemon_.log_tail();
    const auto after = held(client);
    EXPECT_LE(after.first, before.first) << "descriptors of the daemon after " << what.call;
    EXPECT_LE(after.second, before.second) << "descriptors of the keeper after " << what.call;
    return 1;
  });
  visit_undisturbed();
}

TEST_F(Syscalls, OutOfDescriptorsIsSaidAndHeals) {
  constexpr int kOthers = 8;
  Client client = daemon_.connect();
  TopicConfig config;
  config.name = "orders";
  ASSERT_TRUE(client.create_topic(config));
  Producer producer = client.producer("orders").value();
  ReaderOptions from_the_start;
  from_the_start.from = From::earliest();
  Reader reader = client.reader({"orders"}, from_the_start).value();
  ASSERT_TRUE(producer.send("the first"));
  ASSERT_TRUE(producer.flush());
  std::vector<Client> others;
  for (int i = 0; i < kOthers; ++i) others.push_back(daemon_.connect());

  rlimit limit{};
  ASSERT_EQ(0, ::prlimit(pid_, RLIMIT_NOFILE, nullptr, &limit));
  limit.rlim_cur = descriptors_of(pid_);
  ASSERT_EQ(0, ::prlimit(pid_, RLIMIT_NOFILE, &limit, nullptr));
  const auto began = std::chrono::steady_clock::now();
  std::atomic<bool> let_in{false};
  std::thread late([&] {
    ConnectOptions options;
    options.socket = daemon_.socket();
    options.timeout = 60s;
    // What it says where it is accepted with the last descriptor there was.
    const auto refused = [](const Error& error) {
      return error.code() == ErrorCode::no_memory && error.message().find(std::strerror(EMFILE)) != std::string::npos;
    };
    auto visitor = Client::connect(options);
    while (!visitor && refused(visitor.error())) {
      std::this_thread::sleep_for(10ms);
      visitor = Client::connect(options);
    }
    let_in = visitor.has_value();
  });
  const auto refusals = [&] {
    const std::string log = daemon_.log_since_start();
    std::size_t count = 0;
    for (std::size_t at = 0; (at = log.find("cannot accept", at)) != std::string::npos; ++at) ++count;
    return count;
  };
  EXPECT_TRUE(wait_until([&] { return refusals() >= 3; })) << daemon_.log_tail();
  // It looks again every now and then, and not all the time.
  const auto waited = std::chrono::steady_clock::now() - began;
  EXPECT_LE(refusals(), static_cast<std::size_t>(waited / 50ms) + 3);
  EXPECT_FALSE(let_in);
  // Who is in goes on.
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(producer.send("another"));
  ASSERT_TRUE(producer.flush());
  for (int i = 0; i < 101; ++i) ASSERT_TRUE(reader.next(60s));
  config.name = "payments";
  const Status refused = client.create_topic(config);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(ErrorCode::no_memory, refused.error().code());
  EXPECT_NE(std::string::npos, refused.error().message().find(std::strerror(EMFILE))) << refused.error().message();

  // With room made by others that leave, everything works, and the limit stands.
  others.clear();
  late.join();
  EXPECT_TRUE(let_in);
  EXPECT_TRUE(wait_until([&] { return client.create_topic(config).has_value(); }));
  Producer payments = client.producer("payments").value();
  EXPECT_TRUE(payments.send("hello"));
  EXPECT_EQ(pid_, client.status().value().pid);
}

}  // namespace
}  // namespace sluice::test
