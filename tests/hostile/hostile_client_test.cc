// Nobody trusts shared bytes: a client that overwrites what it may write harms the topic that it may publish to, is
// noticed with topic, partition and position, and crashes neither the daemon nor a consumer. What it may not write it
// cannot.
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "tests/crash/daemon_process.h"
#include "tests/hostile/neighbours.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr uid_t kMember = 54321;    // may connect: its group is the socket's
constexpr uid_t kStranger = 54322;  // may not

std::string slurp(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

class Hostile : public testing::Test {
 protected:
  void start(const std::string& toml = "") {
    daemon_.configure(toml);
    ASSERT_TRUE(daemon_.start()) << daemon_.log_tail();
  }

  void create(const std::string& name, std::vector<std::string> publishers = {},
              std::vector<std::string> consumers = {}) {
    Client client = daemon_.connect();
    TopicConfig config;
    config.name = name;
    config.partitions = 2;
    config.segment_size = 256 * 1024;
    config.publishers = std::move(publishers);
    config.consumers = std::move(consumers);
    const Status made = client.create_topic(config);
    ASSERT_TRUE(made.has_value()) << made.error().message();
  }

  // Runs the client to its end; what it said is in output_.
  int run(uid_t uid, const std::vector<std::string>& arguments) {
    const std::filesystem::path log = daemon_.folder() / ("hostile-" + std::to_string(++runs_) + ".log");
    std::ofstream(log).close();
    Process::Options options;
    options.uid = uid;
    options.log = log;
    std::vector<std::string> command{HOSTILE_CLIENT_PATH, daemon_.socket()};
    command.insert(command.end(), arguments.begin(), arguments.end());
    ::chmod(log.c_str(), 0666);
    Process process = Process::start(command, options);
    const auto status = process.wait();
    output_ = slurp(log);
    return status && WIFEXITED(*status) ? WEXITSTATUS(*status) : -1;
  }

  void expect_alive() {
    const auto status = daemon_.process().poll();
    EXPECT_FALSE(status.has_value()) << "the daemon ended with wait status " << *status << "\n" << daemon_.log_tail();
    const std::string log = slurp(daemon_.folder() / "sluiced.log");
    EXPECT_EQ(std::string::npos, log.find("Sanitizer")) << daemon_.log_tail();
    EXPECT_EQ(std::string::npos, log.find("runtime error")) << daemon_.log_tail();
  }

  TestDaemon daemon_;
  std::string output_;
  int runs_ = 0;
};

TEST_F(Hostile, WordsOverHeadersHarmOneTopicAndAreNoticedWithTheirPlace) {
  start();
  create("victim");
  create("healthy");
  Neighbours victim(daemon_, "victim"), healthy(daemon_, "healthy");
  ASSERT_TRUE(wait_until([&] { return victim.read > 200 && healthy.read > 200; }));
  const int rounds = long_run() ? 40 : 6;
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t read_before = healthy.read;
    // The writer may itself be hit by what it did: how it ends does not matter.
    run(static_cast<uid_t>(-1), {"victim", round % 3 == 2 ? "bells" : "scribble", "4000", std::to_string(round)});
    expect_alive();
    ASSERT_TRUE(wait_until([&] { return healthy.read > read_before + 100; })) << "the healthy topic stands\n"
                                                                              << daemon_.log_tail();
  }
  victim.finish();
  healthy.finish();
  EXPECT_EQ(healthy.sent, healthy.read);
  EXPECT_EQ(0u, healthy.corrupt) << healthy.place;
  EXPECT_EQ(0u, healthy.failures) << healthy.failure;
  Client client = daemon_.connect();
  EXPECT_TRUE(client.audit("healthy").value().holds);
  // Somebody noticed, and said where: a consumer, or the daemon.
  const std::string log = slurp(daemon_.folder() / "sluiced.log");
  EXPECT_TRUE(victim.place.find("victim/") == 0 || log.find("victim") != std::string::npos) << victim.place;
  std::printf("  victim: %llu sent, %llu read, %llu corrupt; last at %s; last error %s\n",
              static_cast<unsigned long long>(victim.sent), static_cast<unsigned long long>(victim.read),
              static_cast<unsigned long long>(victim.corrupt), victim.place.c_str(), victim.failure.c_str());
  // It starts again over what was spilled of that.
  EXPECT_EQ(0, daemon_.stop()) << daemon_.log_tail();
  ASSERT_TRUE(daemon_.start()) << daemon_.log_tail();
  Client again = daemon_.connect();
  EXPECT_TRUE(again.audit("healthy").value().holds);
  expect_alive();
}

TEST_F(Hostile, AnotherUserHarmsAtMostTheTopicItMayPublishTo) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to be somebody else";
  start("socket_group = \"" + std::to_string(kMember) + "\"\n");
  ::chmod(daemon_.folder().c_str(), 0711);
  const std::string member = "user:" + std::to_string(kMember);
  create("theirs", {member}, {member});
  create("ours", {"user:0"}, {member});
  create("secret", {"user:0"}, {"user:0"});
  Neighbours ours(daemon_, "ours");
  ASSERT_TRUE(wait_until([&] { return ours.read > 10; }));

  EXPECT_EQ(0, run(kMember, {"ours", "attack-reader"})) << output_;
  EXPECT_NE(std::string::npos, output_.find("refused")) << output_;
  EXPECT_NE(std::string::npos, output_.find(":log: refused")) << output_;
  EXPECT_EQ(std::string::npos, output_.find("done")) << output_;

  EXPECT_EQ(0, run(kMember, {"theirs", "attack-producer"})) << output_;
  std::istringstream lines(output_);
  for (std::string line; std::getline(lines, line);) {
    if (line.find("hole-in-own") == 0) continue;  // as harmful as writing, which it may
    EXPECT_EQ(std::string::npos, line.find("done")) << line;
  }
  EXPECT_NE(std::string::npos, output_.find("hole-in-own")) << output_;

  EXPECT_EQ(4, run(kMember, {"ours", "publish"})) << output_;
  EXPECT_NE(std::string::npos, output_.find("ours")) << output_;
  EXPECT_EQ(4, run(kMember, {"secret", "read"})) << output_;
  EXPECT_EQ(4, run(kMember, {"secret", "publish"})) << output_;
  EXPECT_EQ(4, run(kStranger, {"ours", "read"})) << output_;
  ::chmod(daemon_.socket().c_str(), 0666);
  EXPECT_EQ(4, run(kStranger, {"ours", "read"})) << output_;
  EXPECT_NE(std::string::npos, output_.find(std::to_string(kStranger))) << output_;

  ours.finish();
  EXPECT_EQ(ours.sent, ours.read);
  EXPECT_EQ(0u, ours.corrupt + ours.failures) << ours.place << ours.failure;
  Client client = daemon_.connect();
  EXPECT_TRUE(client.audit("ours").value().holds);
  expect_alive();
}

}  // namespace
}  // namespace sluice::test
