// Topics that have mirrors of their own: which are allowed, what is in them, what is left of them.
#include "daemon/bus/topic_mirrors.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/io/pwrite_disk.h"
#include "tests/daemon/bus/bus_rig.h"

namespace sluice::bus {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kSent = 1000;

std::string content(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

class BusTopicMirrors : public testing::Test {
 protected:
  std::string mirror() const { return rig_.mirror_root() + "/b"; }
  fs::path first_copy() const { return rig_.folder() + "/data/mirrored/orders-1"; }
  fs::path second_copy() const { return mirror() + "/orders-1"; }

  void create() {
    core::TopicConfig config;
    config.segment_size = kSegmentSizeMin;
    config.mirrors = {mirror()};
    rig_.create_topic(config);
  }
  ProducerId send() {
    const TestClient client = rig_.attach();
    TestProducer sender = rig_.produce(client);
    sender.send(kSent);
    rig_.work();
    return sender.id;
  }
  Status refused(std::vector<std::string> mirrors) {
    core::TopicRequest request;
    request.config.name = "refused";
    request.config.mirrors = std::move(mirrors);
    return rig_.bus().create_topic(rig_.attach().id, std::move(request));
  }
  void delete_topic() { ASSERT_TRUE(rig_.bus().delete_topic(rig_.attach().id, BusRig::kTopic)); }
  void expect_nothing_left() const {
    EXPECT_FALSE(fs::exists(first_copy()));
    EXPECT_FALSE(fs::exists(second_copy()));
  }

  BusRig rig_;
};

TEST_F(BusTopicMirrors, EveryLogFileIsTheSameInEveryCopy) {
  create();
  send();
  std::size_t logs = 0;
  for (const auto& entry : fs::directory_iterator(first_copy() / "topics/orders/0")) {
    const fs::path other = second_copy() / "topics/orders/0" / entry.path().filename();
    ASSERT_TRUE(fs::exists(other)) << other;
    EXPECT_EQ(content(entry.path()), content(other)) << other;
    logs += other.extension() == ".log";
  }
  EXPECT_GT(logs, 0u);
  EXPECT_FALSE(fs::exists(rig_.folder() + "/data/topics/orders")) << "its files lie elsewhere";
}

TEST_F(BusTopicMirrors, WhatTheDataDirectorysCopyHasLostComesFromTheOther) {
  create();
  const ProducerId sender = send();
  fs::remove_all(first_copy() / "topics/orders");
  rig_.kill_and_start();
  EXPECT_EQ(rig_.counts_of(sender).data, kSent);
  EXPECT_TRUE(rig_.audit().holds);
  EXPECT_TRUE(fs::exists(first_copy() / "topics/orders/0"));
}

TEST_F(BusTopicMirrors, AStartThatCannotSeeAGoodCopyIsRefusedUntilItIsBack) {
  create();
  const ProducerId sender = send();
  fs::rename(second_copy(), second_copy().string() + ".away");
  const Status started = rig_.try_kill_and_start();
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code(), ErrorCode::conflict);
  EXPECT_NE(started.error().message().find(second_copy().string()), std::string::npos) << started.error().message();
  EXPECT_NE(started.error().message().find("orders"), std::string::npos) << started.error().message();
  fs::remove_all(second_copy());  // made by the start that was refused
  fs::rename(second_copy().string() + ".away", second_copy());
  rig_.kill_and_start();
  EXPECT_EQ(rig_.counts_of(sender).data, kSent);
}

TEST_F(BusTopicMirrors, StatusNamesTheCopiesAndTheirTopic) {
  create();
  const auto mirrors = rig_.bus().status(rig_.attach().id).value().mirrors;
  ASSERT_EQ(mirrors.size(), 2u);
  EXPECT_EQ(mirrors[0].path, first_copy().string());
  EXPECT_EQ(mirrors[1].path, second_copy().string());
  for (const session::MirrorStatus& mirror : mirrors) {
    EXPECT_EQ(mirror.topic, BusRig::kTopic);
    EXPECT_EQ(mirror.state, "good");
  }
}

TEST_F(BusTopicMirrors, ADeletedTopicLeavesNothingInAnyCopy) {
  create();
  send();
  delete_topic();
  rig_.work();
  expect_nothing_left();
  EXPECT_TRUE(fs::exists(mirror())) << "the directory itself is somebody else's";
}

TEST_F(BusTopicMirrors, WhatADeletedTopicHasLeftGoesAtTheNextStart) {
  create();
  send();
  delete_topic();
  ASSERT_TRUE(fs::exists(second_copy() / "topics/.deleted-1"));
  rig_.kill_and_start();
  expect_nothing_left();
}

TEST_F(BusTopicMirrors, FilesThatNoTopicHasSetAsideAreLeftAlone) {
  create();
  send();
  const fs::path strange = first_copy().parent_path() / "orders-9";
  fs::create_directories(strange / "topics/orders/0");
  rig_.kill_and_start();
  EXPECT_TRUE(fs::exists(strange / "topics/orders/0"));
}

TEST_F(BusTopicMirrors, ATopicThatCannotHaveItsMirrorsIsNotMadeAndLeavesNothing) {
  fs::create_directories(rig_.mirror_root());
  std::ofstream(mirror()) << "a file";
  const Status made = refused({mirror()});
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message().find(mirror()), std::string::npos) << made.error().message();
  EXPECT_EQ(rig_.bus().describe_topic(rig_.attach().id, "refused").error().code(), ErrorCode::not_found);
  rig_.work();
  EXPECT_TRUE(fs::is_empty(rig_.folder() + "/data/mirrored"));
}

TEST_F(BusTopicMirrors, ADirectoryThatIsThereAlreadyIsNotTaken) {
  fs::create_directories(mirror() + "/refused-1");
  EXPECT_EQ(refused({mirror()}).error().code(), ErrorCode::exists);
  EXPECT_TRUE(fs::exists(mirror() + "/refused-1"));
}

TEST_F(BusTopicMirrors, OnlyDirectoriesThatTheConfigurationAllowsAreWrittenTo) {
  EXPECT_EQ(refused({rig_.folder() + "/elsewhere"}).error().code(), ErrorCode::permission);
  EXPECT_EQ(refused({rig_.mirror_root() + "-too"}).error().code(), ErrorCode::permission);
  EXPECT_EQ(refused({rig_.mirror_root() + "/../elsewhere"}).error().code(), ErrorCode::invalid);
  fs::create_directories(rig_.mirror_root());
  fs::create_directory_symlink(rig_.folder(), rig_.mirror_root() + "/link");
  EXPECT_EQ(refused({rig_.mirror_root() + "/link/elsewhere"}).error().code(), ErrorCode::permission);
  EXPECT_FALSE(fs::exists(rig_.folder() + "/elsewhere"));
  // Two names of one directory.
  fs::create_directories(mirror());
  fs::create_directory_symlink(mirror(), rig_.mirror_root() + "/same");
  EXPECT_EQ(refused({mirror(), rig_.mirror_root() + "/same"}).error().code(), ErrorCode::invalid);
}

TEST(TopicMirrors, WithoutMirrorRootsOrAboveTheDataDirectoryNoneIsAllowed) {
  io::PwriteDisk::Options options;
  options.direct_io = false;
  const auto disk = io::PwriteDisk::create(options).value();
  const DataDirectory directory("/srv/sluice/data");
  core::TopicConfig config;
  config.name = "orders";
  config.mirrors = {"/srv/sluice/data/b"};
  const Status none = TopicMirrors({}, directory, *disk).check(config);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), ErrorCode::permission);
  EXPECT_NE(none.error().message().find("mirror_roots"), std::string::npos) << none.error().message();
  TopicMirrorSettings settings;
  settings.roots = {"/srv"};
  const TopicMirrors mirrors(settings, directory, *disk);
  EXPECT_EQ(mirrors.check(config).error().code(), ErrorCode::invalid) << "it lies in the data directory";
  config.mirrors = {"/srv/sluice"};
  EXPECT_EQ(mirrors.check(config).error().code(), ErrorCode::invalid) << "the data directory lies in it";
  config.mirrors = {"/srv/b", "/srv/c", "/srv/d"};
  EXPECT_TRUE(mirrors.check(config));
  config.mirrors.push_back("/srv/e");
  EXPECT_EQ(mirrors.check(config).error().code(), ErrorCode::invalid) << "too many";
}

}  // namespace
}  // namespace sluice::bus
