// The commands of consumer groups against a control server whose groups answer with known values: what is asked of the
// daemon, what is printed, and the exit codes.

#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sdk/cli/command.h"
#include "tests/daemon/control/fake_bus.h"

namespace sluice::cli {
namespace {

struct Outcome {
  int exit_code;
  std::string out;
  std::string err;
};

class GroupCommand : public testing::Test {
 protected:
  Outcome run(std::vector<std::string> words) {
    words.insert(words.begin(), "sluice");
    words.insert(words.end(), {"--socket", folder_.file("s")});
    std::vector<const char*> arguments;
    for (const std::string& word : words) arguments.push_back(word.c_str());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int code = run_command_line(static_cast<int>(arguments.size()), arguments.data());
    return {code, testing::internal::GetCapturedStdout(), testing::internal::GetCapturedStderr()};
  }
  Json json(std::vector<std::string> words) {
    words.emplace_back("--json");
    const Outcome outcome = run(words);
    return outcome.exit_code == 0 ? Json::parse(outcome.out) : Json(outcome.err);
  }
  void look(const std::function<void(test::FakeGroups&)>& at) {
    bus_.run([&](test::FakeBus& bus) { at(bus.fake_groups); });
  }

  test::TemporaryFolder folder_;
  test::FakeBus bus_;
  test::RunningServer server_{folder_.file("s"), bus_};
};

TEST_F(GroupCommand, create_takes_every_setting_and_leaves_the_others_to_the_daemon) {
  EXPECT_EQ(run({"group", "create", "billing", "--mode", "ordered", "--ack-timeout", "5s", "--member-timeout", "10s",
                 "--max-attempts", "3", "--backoff", "1s,5s,1m", "--strict", "key", "--hold"})
                .exit_code,
            0);
  look([](test::FakeGroups& groups) {
    core::GroupConfig expected;
    expected.name = "billing";
    expected.ack_timeout_ns = 5'000'000'000;
    expected.member_timeout_ns = 10'000'000'000;
    expected.max_attempts = 3;
    expected.backoff.steps_ns = {1'000'000'000, 5'000'000'000, 60'000'000'000};
    expected.strict = core::Strict::key;
    expected.hold = true;
    EXPECT_EQ(groups.created, expected);
  });
  EXPECT_EQ(run({"group", "create", "billing"}).exit_code, 8) << "it exists";
  EXPECT_EQ(run({"group", "create", "other", "--mode", "shared", "--backoff", "exp:1s..1m"}).exit_code, 0);
  look([](test::FakeGroups& groups) {
    core::GroupConfig expected;
    expected.name = "other";
    expected.mode = core::GroupMode::shared;
    expected.backoff = {{}, 1'000'000'000, 60'000'000'000};
    EXPECT_EQ(groups.created, expected);
  });
}

TEST_F(GroupCommand, alter_changes_what_is_given_alone) {
  EXPECT_EQ(run({"group", "alter", "billing", "--no-hold"}).exit_code, 0);
  look([](test::FakeGroups& groups) {
    EXPECT_EQ(groups.altered->hold, false);
    EXPECT_FALSE(groups.altered->ack_timeout_ns || groups.altered->member_timeout_ns || groups.altered->max_attempts ||
                 groups.altered->backoff || groups.altered->strict);
  });
  EXPECT_EQ(run({"group", "alter", "billing", "--max-attempts", "5", "--strict", "none"}).exit_code, 0);
  look([](test::FakeGroups& groups) {
    EXPECT_FALSE(groups.altered->hold);
    EXPECT_EQ(groups.altered->max_attempts, 5u);
    EXPECT_EQ(groups.altered->strict, core::Strict::none);
  });
  EXPECT_EQ(run({"group", "alter", "none", "--hold"}).exit_code, 5);
}

TEST_F(GroupCommand, a_group_is_paused_resumed_and_deleted_by_name) {
  EXPECT_EQ(run({"group", "pause", "billing"}).exit_code, 0);
  look([](test::FakeGroups& groups) { EXPECT_EQ(groups.paused, true); });
  EXPECT_EQ(run({"group", "resume", "billing"}).exit_code, 0);
  look([](test::FakeGroups& groups) { EXPECT_EQ(groups.paused, false); });
  EXPECT_EQ(run({"group", "delete", "billing"}).exit_code, 0);
  EXPECT_EQ(run({"group", "delete", "none"}).exit_code, 5);
}

TEST_F(GroupCommand, describe_and_list_print_what_the_daemon_knows) {
  const Json group = json({"group", "describe", "billing"});
  EXPECT_EQ(group["partitions"][0]["cursor"], 34);
  EXPECT_EQ(group["partitions"][1]["catch_up_ms"], nullptr);
  EXPECT_EQ(group["members"][0]["client_name"], "worker");
  EXPECT_EQ(json({"group", "list"})["groups"].size(), 2u);
  EXPECT_NE(run({"group", "describe", "billing"}).out.find("orders, bills.*"), std::string::npos);
  EXPECT_NE(run({"group", "list"}).out.find("\naudit "), std::string::npos);
  EXPECT_EQ(run({"group", "describe", "none"}).exit_code, 5);
}

TEST_F(GroupCommand, seek_is_a_dry_run_unless_it_is_told_to_execute_and_says_how_to_undo_it) {
  const Outcome dry = run({"group", "seek", "billing", "--to", "earliest"});
  EXPECT_EQ(dry.exit_code, 0);
  EXPECT_NE(dry.out.find("nothing was moved"), std::string::npos);
  const std::string undo = "sluice group seek billing --topic orders --to 61@62 --execute\n";
  EXPECT_NE(dry.out.find(undo), std::string::npos) << dry.out;
  look([](test::FakeGroups& groups) {
    EXPECT_FALSE(groups.sought->execute);
    EXPECT_EQ(groups.sought->topic, "");
  });
  const Outcome done = run({"group", "seek", "billing", "--topic", "orders", "--to", "3@640", "--execute", "--force"});
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_EQ(done.out.find("nothing was moved"), std::string::npos);
  EXPECT_NE(done.out.find(undo), std::string::npos) << done.out;
  look([](test::FakeGroups& groups) {
    EXPECT_TRUE(groups.sought->execute);
    EXPECT_TRUE(groups.sought->force);
    EXPECT_EQ(groups.sought->topic, "orders");
    EXPECT_EQ(groups.sought->to.kind, core::GroupStart::Kind::position);
    EXPECT_EQ(groups.sought->to.partition, 3u);
    EXPECT_EQ(groups.sought->to.position, Position(640));
  });
  const Json document = json({"group", "seek", "billing", "--to", "-10m"});
  EXPECT_EQ(document["executed"], false);
  EXPECT_EQ(document["moves"][0]["from"], 62);
  EXPECT_EQ(document["moves"][0]["to"], 63);
  EXPECT_EQ(document["undo"][0].get<std::string>() + "\n", undo);
  look([](test::FakeGroups& groups) { EXPECT_EQ(groups.sought->to.kind, core::GroupStart::Kind::time); });
}

TEST_F(GroupCommand, a_position_alone_needs_a_topic_of_one_partition) {
  ASSERT_EQ(run({"topic", "create", "one"}).exit_code, 0);
  ASSERT_EQ(run({"topic", "create", "two", "--partitions", "2"}).exit_code, 0);
  EXPECT_EQ(run({"group", "seek", "billing", "--topic", "one", "--to", "64"}).exit_code, 0);
  EXPECT_EQ(run({"group", "seek", "billing", "--topic", "two", "--to", "64"}).exit_code, 2);
  EXPECT_EQ(run({"consume", "two", "--group", "billing", "--from", "64"}).exit_code, 2);
  EXPECT_EQ(run({"consume", "t*", "--group", "billing", "--from", "0@64"}).exit_code, 2);
}

TEST_F(GroupCommand, why_prints_the_sentence_and_the_advice_and_checks_if_it_is_asked_to) {
  const Outcome why = run({"why", "billing"});
  EXPECT_EQ(why.exit_code, 0);
  EXPECT_EQ(why.out, "It is catching up.\n  -> Wait.\n");
  EXPECT_EQ(json({"why", "billing"})["cause"], "catching_up");
  EXPECT_EQ(run({"why", "billing", "--check"}).exit_code, 0);
  // Two partitions of 36 messages, the oldest 38 ns old.
  EXPECT_EQ(run({"why", "billing", "--check", "--max-lag", "72", "--max-age", "38ns"}).exit_code, 0);
  const Outcome over = run({"why", "billing", "--check", "--max-lag", "71"});
  EXPECT_EQ(over.exit_code, 1);
  EXPECT_NE(over.out.find("The lag is 72 messages"), std::string::npos) << over.out;
  EXPECT_EQ(run({"why", "billing", "--check", "--max-age", "37ns"}).exit_code, 1);
  look([](test::FakeGroups& groups) { groups.well = false; });
  EXPECT_EQ(run({"why", "billing", "--check"}).exit_code, 1);
  EXPECT_EQ(run({"why", "billing"}).exit_code, 0) << "nobody asked for a check";
  EXPECT_EQ(run({"why", "none", "--check"}).exit_code, 5);
}

TEST_F(GroupCommand, dead_letters_are_counted_redriven_and_purged) {
  EXPECT_EQ(json({"dlq", "list"})["groups"][0]["parked"], 91);
  EXPECT_EQ(run({"dlq", "list", "none"}).exit_code, 5);
  const Json redriven = json(
      {"dlq", "redrive", "billing", "--filter", "topic=orders", "--filter", "reason=a=b", "--rate", "5", "--dry-run"});
  EXPECT_EQ(redriven["outcomes"][0]["outcome"], "would_redrive");
  look([](test::FakeGroups& groups) {
    using Pair = std::pair<std::string, std::string>;
    EXPECT_EQ(groups.redriven->filter, (std::vector<Pair>{{"topic", "orders"}, {"reason", "a=b"}}));
    EXPECT_EQ(groups.redriven->rate, 5u);
    EXPECT_TRUE(groups.redriven->dry_run);
  });
  const Outcome good = run({"dlq", "redrive", "billing"});
  EXPECT_EQ(good.exit_code, 0);
  EXPECT_NE(good.out.find("1 redriven\n"), std::string::npos) << good.out;
  look([](test::FakeGroups& groups) { groups.redrive_outcome = "failed: its copy is gone"; });
  const Outcome bad = run({"dlq", "redrive", "billing"});
  EXPECT_EQ(bad.exit_code, 7);
  EXPECT_NE(bad.out.find("0 redriven, 1 not\n"), std::string::npos) << bad.out;
  EXPECT_NE(bad.out.find("failed: its copy is gone"), std::string::npos) << bad.out;
  EXPECT_EQ(run({"dlq", "purge", "billing"}).out, "101 purged\n");
  EXPECT_EQ(run({"dlq", "show", "none"}).exit_code, 5);
}

TEST_F(GroupCommand, top_draws_topics_and_groups_as_often_as_it_is_told_to) {
  ASSERT_EQ(run({"topic", "create", "orders"}).exit_code, 0);
  const Outcome top = run({"top", "--count", "2", "--interval", "1ms"});
  EXPECT_EQ(top.exit_code, 0);
  std::size_t pictures = 0;
  for (std::size_t at = 0; (at = top.out.find("\nbilling ", at)) != std::string::npos; ++at) ++pictures;
  EXPECT_EQ(pictures, 2u) << top.out;
  EXPECT_NE(top.out.find("\norders "), std::string::npos) << top.out;
  EXPECT_EQ(top.out.find('\x1b'), std::string::npos) << "it is no terminal";
}

}  // namespace
}  // namespace sluice::cli
