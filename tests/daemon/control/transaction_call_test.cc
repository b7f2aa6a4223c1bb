// The calls of transactions, client to bus and back; one that waits is answered when there is something.
#include <chrono>
#include <memory>
#include <thread>

#include <gtest/gtest.h>

#include "sdk/control_client.h"
#include "tests/daemon/control/fake_bus.h"

namespace sluice {
namespace {

using internal::ControlClient;
using namespace std::chrono_literals;
using test::FakeBus;
using test::FakeTransactions;

class TransactionCall : public testing::Test {
 protected:
  TransactionCall() {
    ConnectOptions options;
    options.socket = folder_.file("s");
    options.control_timeout = 10s;
    client_ = ControlClient::connect(std::move(options)).value();
  }
  void look(const std::function<void(FakeTransactions&)>& at) {
    bus_.run([&](FakeBus& bus) { at(bus.fake_transactions); });
  }

  test::TemporaryFolder folder_;
  FakeBus bus_;
  std::unique_ptr<test::RunningServer> server_ = std::make_unique<test::RunningServer>(folder_.file("s"), bus_);
  std::unique_ptr<ControlClient> client_;
};

TEST_F(TransactionCall, ATransactorIsOpenedAndClosed) {
  EXPECT_EQ(client_->open_transactor("shop", ProducerId(5)), ProducerId(17));
  look([](FakeTransactions& fake) {
    EXPECT_EQ(fake.group, "shop");
    EXPECT_EQ(fake.former, ProducerId(5));
  });
  EXPECT_TRUE(client_->close_transactor(ProducerId(17)));
  EXPECT_EQ(client_->close_transactor(ProducerId(18)).error().code(), ErrorCode::not_found);
}

TEST_F(TransactionCall, AResolutionNamesItsHalvesAndTellsWhatStands) {
  internal::ResolveRequest request;
  request.transactor = ProducerId(17);
  request.transaction = TransactionId::make(ProducerId(17), 9);
  request.commit = true;
  request.halves = {{{}, TopicId(4), 5, Position(640)}};
  const auto resolution = client_->resolve(request);
  ASSERT_TRUE(resolution) << resolution.error().message();
  EXPECT_TRUE(resolution->commit && resolution->was_decided);
  look([&](FakeTransactions& fake) {
    ASSERT_TRUE(fake.resolved);
    EXPECT_EQ(fake.resolved->transactor, request.transactor);
    EXPECT_EQ(fake.resolved->transaction, request.transaction);
    EXPECT_TRUE(fake.resolved->commit);
    ASSERT_EQ(fake.resolved->halves.size(), 1u);
    EXPECT_EQ(fake.resolved->halves[0].topic_id, TopicId(4));
    EXPECT_EQ(fake.resolved->halves[0].partition, 5u);
    EXPECT_EQ(fake.resolved->halves[0].position, Position(640));
  });
  request.transaction = TransactionId(1);
  EXPECT_EQ(client_->resolve(request).error().code(), ErrorCode::conflict);
}

TEST_F(TransactionCall, MoreHalvesThanATransactionMayHaveAreRefused) {
  internal::ResolveRequest request;
  request.halves.resize(kHalvesPerTransactionMax + 1);
  const auto refused = client_->resolve(request);
  EXPECT_EQ(refused.error().code(), ErrorCode::too_large) << refused.error().message();
}

TEST_F(TransactionCall, WhoWaitsForACheckIsAnsweredWhenThereIsOne) {
  Result<internal::CheckRequest> check;
  std::thread waiting([&] { check = client_->take_check(ProducerId(17)); });
  ASSERT_TRUE(bus_.eventually([](FakeBus& bus) { return static_cast<bool>(bus.fake_transactions.poll); }));
  EXPECT_TRUE(client_->status()) << "other calls are answered meanwhile";
  look([](FakeTransactions& fake) {
    std::exchange(fake.poll,
                  {})(session::CheckRequest{TransactionId(33), 44, {{"orders", TopicId(4), 5, Position(640)}}});
  });
  waiting.join();
  ASSERT_TRUE(check) << check.error().message();
  EXPECT_EQ(check->transaction, TransactionId(33));
  EXPECT_EQ(check->serial, 44u);
  ASSERT_EQ(check->halves.size(), 1u);
  EXPECT_EQ(check->halves[0].topic, "orders");
  EXPECT_EQ(check->halves[0].position, Position(640));
  EXPECT_TRUE(client_->answer_check(ProducerId(17), TransactionId(33), 44, Verdict::rollback));
  look([](FakeTransactions& fake) {
    EXPECT_EQ(fake.answered_serial, 44u);
    EXPECT_EQ(fake.answered, Verdict::rollback);
  });
}

TEST_F(TransactionCall, WhoWaitsWhenTheDaemonGoesIsToldSo) {
  Result<internal::CheckRequest> check;
  std::thread waiting([&] { check = client_->take_check(ProducerId(17)); });
  ASSERT_TRUE(bus_.eventually([](FakeBus& bus) { return static_cast<bool>(bus.fake_transactions.poll); }));
  server_.reset();
  waiting.join();
  ASSERT_FALSE(check);
  EXPECT_EQ(check.error().code(), ErrorCode::unknown);
  server_ = std::make_unique<test::RunningServer>(folder_.file("s"), bus_);
}

TEST_F(TransactionCall, EveryFieldOfATransactionArrives) {
  const auto expect = [](const TransactionInfo& info) {
    EXPECT_EQ(info.id, TransactionId::make(ProducerId(17), 3));
    EXPECT_EQ(info.group, "shop");
    EXPECT_EQ(info.state, "parked");
    EXPECT_TRUE(info.check_back);
    EXPECT_EQ(info.created_ns, 11u);
    EXPECT_EQ(info.next_check_in, 12ns);
    EXPECT_EQ(info.unknowns, 13u);
    EXPECT_EQ(info.decided_ns, 14u);
    EXPECT_EQ(info.decided_by, "somebody");
    ASSERT_EQ(info.halves.size(), 1u);
    EXPECT_EQ(info.halves[0].topic, "orders");
    EXPECT_EQ(info.halves[0].partition, 5u);
    EXPECT_EQ(info.halves[0].position, Position(640));
  };
  const auto list = client_->list_transactions(TransactionId(), 10, false);
  ASSERT_TRUE(list && list->size() == 1);
  expect(list->front());
  const TransactionId id = list->front().id;
  EXPECT_TRUE(client_->list_transactions(id, 10, false)->empty());
  expect(client_->describe_transaction(id).value());
  EXPECT_EQ(client_->describe_transaction(TransactionId(1)).error().code(), ErrorCode::not_found);
  expect(client_->order_transaction(id, TransactionOrder::recheck).value());
  look([](FakeTransactions& fake) { EXPECT_EQ(fake.ordered, session::TransactionOrder::recheck); });
}

}  // namespace
}  // namespace sluice
