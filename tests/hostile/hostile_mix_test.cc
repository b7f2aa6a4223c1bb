// All kinds of hostile clients at once, as a user of their own: conversations with changed bytes, forged ids, floods of
// descriptors and connections, answers that are never read, claims that are never committed, shared pages scribbled
// over. Honest clients beside them notice nothing, and the daemon is after it what it was before.
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/crash/daemon_process.h"
#include "tests/crash/results.h"
#include "tests/hostile/neighbours.h"

namespace sluice::test {
namespace {

using namespace std::chrono_literals;

constexpr uid_t kHostile = 54323;
constexpr auto kRound = 10s;
#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kRounds = 3;
#else
constexpr std::uint64_t kRounds = 6;
#endif
const std::vector<std::string> kOnTheWire = {"frames", "forged", "flood", "unread"};
const std::vector<std::string> kInMemory = {"scribble", "bells", "claims"};

std::string slurp(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// A field of /proc/PID/status, in KiB.
std::uint64_t status_kib(pid_t pid, const std::string& field) {
  std::ifstream stream("/proc/" + std::to_string(pid) + "/status");
  for (std::string word; stream >> word;)
    if (word == field + ":" && stream >> word) return std::stoull(word);
  return 0;
}

class HostileMix : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, to be somebody else";
    daemon_.configure("socket_group = \"" + std::to_string(kHostile) +
                      "\"\nmemory_budget = \"512MiB\"\n[limits]\npartitions_max = 2048\n");
    ASSERT_TRUE(daemon_.start()) << daemon_.log_tail();
    ::chmod(daemon_.folder().c_str(), 0711);
    create("honest", Durability::async, {"user:0"});
    create("honest-ticks", Durability::volatile_, {"user:0"});
  }

  void create(const std::string& name, Durability durability, const std::vector<std::string>& users) {
    TopicConfig config;
    config.name = name;
    config.partitions = 2;
    config.durability = durability;
    config.segment_size = 256 * 1024;
    config.claim_deadline = 100ms;
    config.publishers = config.consumers = users;
    if (!client_) client_.emplace(daemon_.connect());
    const Status made = client_->create_topic(config);
    ASSERT_TRUE(made.has_value()) << made.error().message();
  }

  struct Attacker {
    std::string kind;
    bool on_the_wire;
    Process process;
    std::string topic;  // its own, which does not outlive it
  };

  void launch(Attacker& attacker, std::uint64_t seed, std::chrono::seconds time) {
    Process::Options options;
    options.uid = kHostile;
    options.log = daemon_.folder() / (attacker.kind + ".log");
    std::ofstream(options.log, std::ios::app).close();
    ::chmod(options.log.c_str(), 0666);
    std::vector<std::string> command = {
        HOSTILE_WIRE_PATH,   daemon_.socket(), "honest", attacker.kind, std::to_string(time.count()),
        std::to_string(seed)};
    if (!attacker.on_the_wire) {
      // What is scribbled over is of no more use to the next one.
      drop_topic(attacker);
      attacker.topic = "arena-" + std::to_string(++arenas_);
      create(attacker.topic, Durability::async, {"user:" + std::to_string(kHostile)});
      command = {HOSTILE_CLIENT_PATH,
                 daemon_.socket(),
                 attacker.topic,
                 attacker.kind,
                 attacker.kind == "claims" ? "20" : "4000",
                 std::to_string(seed)};
    }
    attacker.process = Process::start(command, options);
  }

  void drop_topic(Attacker& attacker) {
    if (attacker.topic.empty()) return;
    const Status deleted = client_->delete_topic(attacker.topic);
    EXPECT_TRUE(deleted.has_value()) << deleted.error().message();
  }

  // All kinds at once for that time; one that has ended begins anew.
  void attack(std::uint64_t seed, Counts& counts) {
    std::mt19937_64 random(seed);
    std::vector<Attacker> attackers;
    for (const std::string& kind : kOnTheWire) attackers.push_back({kind, true, {}, {}});
    for (const std::string& kind : kInMemory) attackers.push_back({kind, false, {}, {}});
    const auto end = std::chrono::steady_clock::now() + kRound;
    while (std::chrono::steady_clock::now() < end) {
      for (Attacker& attacker : attackers) {
        if (attacker.process.running()) static_cast<void>(attacker.process.poll());
        if (attacker.process.running()) continue;
        launch(attacker, random(), 3s);
        ++counts[attacker.kind];
      }
      std::this_thread::sleep_for(20ms);
    }
    for (Attacker& attacker : attackers) {
      attacker.process.kill();
      drop_topic(attacker);
    }
  }

  TestDaemon daemon_;
  std::optional<Client> client_;
  int arenas_ = 0;
};

TEST_F(HostileMix, HonestClientsNoticeNothingOfAllKindsAtOnce) {
  Neighbours honest(daemon_, "honest"), ticks(daemon_, "honest-ticks");
  ASSERT_TRUE(wait_until([&] { return honest.read > 100 && ticks.read > 100; }));
  Client& client = *client_;
  const std::size_t sessions = client.sessions().value().size();
  const pid_t pid = client.status().value().pid;
  run_rounds({"hostile_mix", kRounds, 360, 60, 3600}, [&](std::uint64_t seed, Counts& counts) {
    const std::uint64_t before = honest.read, ticks_before = ticks.read;
    attack(seed, counts);
    EXPECT_FALSE(daemon_.process().poll().has_value()) << daemon_.log_tail();
    EXPECT_GT(honest.read, before);
    EXPECT_GT(ticks.read, ticks_before);
    counts["honest messages"] += honest.read - before + ticks.read - ticks_before;
    return 1;
  });
  for (Neighbours* each : {&honest, &ticks}) {
    each->finish();
    EXPECT_EQ(each->sent, each->read);
    EXPECT_EQ(0u, each->corrupt) << each->place;
    EXPECT_EQ(0u, each->failures) << each->failure;
  }
  // Whoever is gone has left nothing with the daemon.
  EXPECT_TRUE(wait_until([&] { return client.sessions().value().size() <= sessions; }))
      << client.sessions().value().size() << " sessions, " << sessions << " before";
  EXPECT_EQ(pid, client.status().value().pid);
  std::printf("  the daemon took %llu MiB at the most\n",
              static_cast<unsigned long long>(status_kib(pid, "VmHWM") / 1024));
  for (const std::string topic : {"honest", "honest-ticks"}) EXPECT_TRUE(client.audit(topic).value().holds) << topic;
  const std::string log = slurp(daemon_.folder() / "sluiced.log");
  EXPECT_EQ(std::string::npos, log.find("Sanitizer")) << daemon_.log_tail();
  EXPECT_EQ(std::string::npos, log.find("runtime error")) << daemon_.log_tail();
  for (const auto* kinds : {&kOnTheWire, &kInMemory}) {
    for (const std::string& kind : *kinds) {
      std::istringstream lines(slurp(daemon_.folder() / (kind + ".log")));
      std::string first;
      std::getline(lines, first);
      EXPECT_NE("", first) << kind << " did nothing";
      EXPECT_EQ(std::string::npos, first.find("not let in")) << kind << ": " << first;
      std::printf("  %s\n", first.c_str());
    }
  }
  // It starts again over what is left of all that, and fresh messages pass.
  EXPECT_EQ(0, daemon_.stop()) << daemon_.log_tail();
  ASSERT_TRUE(daemon_.start()) << daemon_.log_tail();
  Neighbours fresh(daemon_, "honest");
  EXPECT_TRUE(wait_until([&] { return fresh.read > 100; }));
  fresh.finish();
  EXPECT_EQ(0u, fresh.corrupt + fresh.failures) << fresh.place << fresh.failure;
}

}  // namespace
}  // namespace sluice::test
