// Every implementation of the Store interface, as the conformance suites run over them.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/store/mirror_store.h"
#include "daemon/store/sim_store.h"
#include "daemon/store/store.h"

namespace sluice::store {

// A place where a store lives through restarts and crashes.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual Result<std::unique_ptr<Store>> open() = 0;
  // The process died: `store` is gone without close(); returns the one that its successor opens.
  virtual Result<std::unique_ptr<Store>> crash(std::unique_ptr<Store> store) = 0;
};

class SqliteBackend final : public Backend {
 public:
  SqliteBackend() {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-store-XXXXXX").string();
    directory_ = mkdtemp(name.data());
  }
  ~SqliteBackend() override { std::filesystem::remove_all(directory_); }
  Result<std::unique_ptr<Store>> open() override { return open_sqlite_store((directory_ / file()).string()); }
  Result<std::unique_ptr<Store>> crash(std::unique_ptr<Store> store) override {
    // What a dead process leaves: the files as they are while it still has them open.
    const auto before = directory_ / file();
    ++life_;
    for (const char* suffix : {"", "-wal"})
      std::filesystem::copy_file(before.string() + suffix, (directory_ / file()).string() + suffix);
    store.reset();
    return open();
  }

 private:
  std::string file() const { return "store-" + std::to_string(life_); }
  std::filesystem::path directory_;
  int life_ = 0;
};

// Two files, both good.
class MirrorBackend final : public Backend, private Copies {
 public:
  MirrorBackend() {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-store-XXXXXX").string();
    directory_ = mkdtemp(name.data());
    make_directories();
  }
  ~MirrorBackend() override { std::filesystem::remove_all(directory_); }
  Result<std::unique_ptr<Store>> open() override {
    SLUICE_ASSIGN(std::unique_ptr<Store> store, open_mirror_store(*this, open_sqlite_store));
    return store;
  }
  Result<std::unique_ptr<Store>> crash(std::unique_ptr<Store> store) override {
    const std::vector<std::string> before = {store_path(0), store_path(1)};
    ++life_;
    make_directories();
    for (std::size_t copy = 0; copy < before.size(); ++copy)
      for (const char* suffix : {"", "-wal"})
        std::filesystem::copy_file(before[copy] + suffix, store_path(copy) + suffix);
    store.reset();
    return open();
  }

 private:
  std::size_t count() const override { return 2; }
  bool is_good(std::size_t) const override { return true; }
  Status mark_stale(std::size_t, const std::string& reason) override { return fail(ErrorCode::internal, reason); }
  std::string store_path(std::size_t copy) const override {
    return (directory_ / std::to_string(life_) / std::to_string(copy) / "store.db").string();
  }
  void make_directories() {
    for (std::size_t copy = 0; copy < 2; ++copy)
      std::filesystem::create_directories(std::filesystem::path(store_path(copy)).parent_path());
  }
  std::filesystem::path directory_;
  int life_ = 0;
};

class SimBackend final : public Backend {
 public:
  Result<std::unique_ptr<Store>> open() override { return medium_.open(); }
  Result<std::unique_ptr<Store>> crash(std::unique_ptr<Store> store) override {
    medium_.lose_power();
    store.reset();
    return open();
  }

 private:
  SimStoreMedium medium_{1};
};

using MakeBackend = std::unique_ptr<Backend> (*)();
struct Implementation {
  const char* name;
  MakeBackend make;
};

class StoreConformance : public testing::TestWithParam<Implementation> {
 protected:
  void SetUp() override {
    backend_ = GetParam().make();
    take(backend_->open());
  }
  void take(Result<std::unique_ptr<Store>> opened) {
    ASSERT_TRUE(opened) << opened.error().message();
    store_ = std::move(*opened);
  }
  void reopen() {
    ASSERT_TRUE(store_->close());
    store_.reset();
    take(backend_->open());
  }
  void crash() { take(backend_->crash(std::move(store_))); }
  TopicId create(const std::string& name) {
    core::TopicConfig config;
    config.name = name;
    const auto id = store_->create_topic(config, 1);
    EXPECT_TRUE(id) << id.error().message();
    return id ? *id : TopicId();
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Store> store_;
};

inline auto implementations() {
  return testing::Values(
      Implementation{"sqlite", []() -> std::unique_ptr<Backend> { return std::make_unique<SqliteBackend>(); }},
      Implementation{"mirrors", []() -> std::unique_ptr<Backend> { return std::make_unique<MirrorBackend>(); }},
      Implementation{"sim", []() -> std::unique_ptr<Backend> { return std::make_unique<SimBackend>(); }});
}
inline std::string implementation_name(const testing::TestParamInfo<Implementation>& info) { return info.param.name; }

}  // namespace sluice::store
