// Each message is delivered one to five times, to several handlers at once, whose connections are cut at any moment and
// whose acks get lost: at the end its effect is there once. For each pattern.
#include <algorithm>
#include <atomic>
#include <deque>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "tests/ledger/conformance.h"

namespace sluice::ledger {
namespace {

constexpr std::uint64_t kMessages = 96;
constexpr unsigned kWorkers = 4;
constexpr unsigned kSubjects = 6;
constexpr unsigned kAttemptsMax = 20'000;     // some hundred will do
constexpr unsigned kAttemptsPerCut = 15;      // by the server; the handlers' own risk comes on top
constexpr std::size_t kVersionDisorder = 30;  // some versions of each subject

// What a bus would do: deliveries that were not acked come again. They come in disorder, by up to `disorder` of them.
class Deliveries {
 public:
  Deliveries(std::mt19937& random, std::size_t disorder) {
    for (std::uint64_t message = 0; message < kMessages; ++message)
      for (auto copies = 1 + random() % 5; copies > 0; --copies) waiting_.push_back(message);
    for (std::size_t begin = 0; begin < waiting_.size(); begin += disorder) {
      const std::size_t end = std::min(begin + disorder, waiting_.size());
      std::shuffle(waiting_.begin() + static_cast<std::ptrdiff_t>(begin),
                   waiting_.begin() + static_cast<std::ptrdiff_t>(end), random);
    }
    open_ = waiting_.size();
  }
  // Nothing: none waits just now.
  std::optional<std::uint64_t> take() {
    const std::lock_guard lock(mutex_);
    if (waiting_.empty()) return std::nullopt;
    const std::uint64_t message = waiting_.front();
    waiting_.pop_front();
    return message;
  }
  void give_back(std::uint64_t message) {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(message);
  }
  void ack() { open_.fetch_sub(1); }
  bool done() const { return open_.load() == 0; }

 private:
  std::mutex mutex_;
  std::deque<std::uint64_t> waiting_;
  std::atomic<std::size_t> open_{0};
};

class ExactlyOnceTest : public LedgerTest {
 protected:
  // One handler's thread: its connection, and its luck.
  struct Worker {
    Session& session;
    Ledger& ledger;
    std::mt19937& random;

    // Here the connection may be cut.
    Status risk() {
      if (random() % 40 == 0) return fail(ErrorCode::closed, "cut on purpose");
      return {};
    }
    Status effect(std::uint64_t what, std::uint64_t note = 0) {
      SLUICE_TRY(risk());
      SLUICE_TRY(
          session.execute("INSERT INTO effects VALUES (" + std::to_string(what) + ", " + std::to_string(note) + ")"));
      SLUICE_TRY(risk());
      return session.execute("UPDATE totals SET total = total + 1 WHERE subject = " + std::to_string(what % kSubjects));
    }
  };
  // Inside a transaction. True: it was a repeat.
  using Handle = std::function<Result<bool>(Worker&, std::uint64_t message)>;

  void SetUp() override {
    LedgerTest::SetUp();
    // Nothing here would keep a second effect out, but the ledger.
    ASSERT_OK(session_->execute("CREATE TABLE effects (message BIGINT NOT NULL, note BIGINT NOT NULL)"));
    ASSERT_OK(session_->execute(
        "CREATE TABLE totals (subject BIGINT PRIMARY KEY, total BIGINT NOT NULL, changes BIGINT NOT NULL)"));
    for (unsigned subject = 0; subject < kSubjects; ++subject)
      ASSERT_OK(session_->execute("INSERT INTO totals VALUES (" + std::to_string(subject) + ", 0, 0)"));
  }

  void deliver_all(const Handle& handle, std::uint64_t effects, std::size_t disorder = 5 * kMessages) {
    std::mt19937 random(testing::UnitTest::GetInstance()->random_seed() + 1);
    Deliveries deliveries(random, disorder);
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < kWorkers; ++i)
      threads.emplace_back([&, seed = random()] { work(deliveries, handle, seed); });
    unsigned cut_at = kAttemptsPerCut;
    while (!deliveries.done() && attempts_ < kAttemptsMax) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      if (attempts_ < cut_at) continue;
      database_->cut_one(random);
      cut_at = attempts_ + kAttemptsPerCut;
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_TRUE(deliveries.done()) << "some are never handled";

    ledger_.reset();
    session_ = connect();  // this one may have been cut too
    EXPECT_EQ(session_->number("SELECT count(*) FROM effects").value(), static_cast<std::int64_t>(effects));
    EXPECT_EQ(session_->number("SELECT count(DISTINCT message) FROM effects").value(),
              static_cast<std::int64_t>(effects));
    EXPECT_EQ(session_->number("SELECT sum(total) FROM totals").value(), static_cast<std::int64_t>(effects));
    EXPECT_GT(cuts_, 0U);
    EXPECT_GT(repeats_, 0U);
  }

  std::atomic<unsigned> attempts_{0};
  std::atomic<unsigned> cuts_{0};
  std::atomic<unsigned> repeats_{0};

 private:
  void work(Deliveries& deliveries, const Handle& handle, std::mt19937::result_type seed) {
    std::mt19937 random(seed);
    std::unique_ptr<Session> session;
    std::optional<Ledger> ledger;
    while (!deliveries.done() && attempts_ < kAttemptsMax) {
      const auto message = deliveries.take();
      if (!message) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        continue;
      }
      Status done = open(session, ledger);
      if (done) done = attempt(*session, *ledger, random, handle, *message);
      const bool ack_lost = done && random() % 10 == 0;
      if (done && !ack_lost)
        deliveries.ack();
      else
        deliveries.give_back(*message);
      if (done || !session) continue;
      if (done.error().code() == ErrorCode::closed || !session->rollback()) {
        cuts_.fetch_add(1);
        ledger.reset();
        session.reset();
      }
    }
  }
  Status open(std::unique_ptr<Session>& session, std::optional<Ledger>& ledger) {
    if (ledger) return {};
    session.reset();
    SLUICE_ASSIGN(session, database_->connect());
    SLUICE_ASSIGN(Ledger opened, Ledger::open(session->connection()));
    ledger.emplace(std::move(opened));
    return {};
  }
  Status attempt(Session& session, Ledger& ledger, std::mt19937& random, const Handle& handle, std::uint64_t message) {
    attempts_.fetch_add(1);
    Worker worker{session, ledger, random};
    SLUICE_TRY(session.begin());
    SLUICE_TRY(worker.risk());
    SLUICE_ASSIGN(const bool repeat, handle(worker, message));
    SLUICE_TRY(worker.risk());
    SLUICE_TRY(session.commit());
    if (repeat) repeats_.fetch_add(1);
    return worker.risk();  // committed, and nobody was told
  }
};
INSTANTIATE_TEST_SUITE_P(Databases, ExactlyOnceTest, kKinds, kind_name);

TEST_P(ExactlyOnceTest, ByPlace) {
  deliver_all(
      [](Worker& worker, std::uint64_t message) -> Result<bool> {
        SLUICE_ASSIGN(const Record record, worker.ledger.record(key_of(message)));
        if (record.outcome == Outcome::repeat) return true;
        SLUICE_TRY(worker.effect(message));
        return false;
      },
      kMessages);
}

// The producer has sent each order twice.
TEST_P(ExactlyOnceTest, ByTheApplicationsId) {
  deliver_all(
      [](Worker& worker, std::uint64_t message) -> Result<bool> {
        const std::uint64_t order = message / 2;
        const std::string id = "order-" + std::to_string(order);
        SLUICE_ASSIGN(const Record record, worker.ledger.record(key_of(message), ApplicationId{id, 1}));
        if (record.outcome == Outcome::repeat) return true;
        SLUICE_TRY(worker.effect(order));
        return false;
      },
      kMessages / 2);
}

Result<bool> went_on(const Advance& advance) {
  if (advance.outcome == Advance::Outcome::early) return fail(ErrorCode::would_block, "an earlier change is missing");
  return advance.outcome == Advance::Outcome::first;
}

TEST_P(ExactlyOnceTest, ByVersion) {
  deliver_all(
      [](Worker& worker, std::uint64_t message) -> Result<bool> {
        const std::string subject = std::to_string(message % kSubjects);
        SLUICE_ASSIGN(const Advance advance, worker.ledger.advance("billing", subject, message / kSubjects + 1));
        SLUICE_ASSIGN(const bool first, went_on(advance));
        if (first) SLUICE_TRY(worker.effect(message));
        return !first;
      },
      kMessages, kVersionDisorder);
  // And in order.
  for (unsigned subject = 0; subject < kSubjects; ++subject)
    EXPECT_EQ(
        session_->number("SELECT version FROM sluice_ledger_versions WHERE subject = '" + std::to_string(subject) + "'")
            .value(),
        kMessages / kSubjects);
}

TEST_P(ExactlyOnceTest, ByAVersionColumnOfTheApplications) {
  deliver_all(
      [](Worker& worker, std::uint64_t message) -> Result<bool> {
        const VersionColumn column{"totals", "subject", "changes"};
        SLUICE_ASSIGN(const Advance advance,
                      worker.ledger.advance(column, std::to_string(message % kSubjects), message / kSubjects + 1));
        SLUICE_ASSIGN(const bool first, went_on(advance));
        if (first) SLUICE_TRY(worker.effect(message));
        return !first;
      },
      kMessages, kVersionDisorder);
  EXPECT_EQ(session_->number("SELECT count(*) FROM totals WHERE changes <> total").value(), 0);
}

TEST_P(ExactlyOnceTest, WithTheResultForTheRepeat) {
  std::atomic<unsigned> wrong{0};
  deliver_all(
      [&](Worker& worker, std::uint64_t message) -> Result<bool> {
        const std::string noted = "SELECT note FROM effects WHERE message = " + std::to_string(message);
        SLUICE_ASSIGN(std::optional<Record> found, worker.ledger.check(key_of(message)));
        if (!found) {
          SLUICE_ASSIGN(const Record record, worker.ledger.record(key_of(message)));
          if (record.outcome == Outcome::repeat) found = record;
        }
        if (found) {
          SLUICE_ASSIGN(const std::int64_t note, worker.session.number(noted));
          if (found->result != std::to_string(note)) wrong.fetch_add(1);
          return true;
        }
        const std::uint64_t note = worker.random();  // no other attempt would come to it
        SLUICE_TRY(worker.effect(message, note));
        SLUICE_TRY(worker.ledger.keep_result(key_of(message), std::to_string(note)));
        return false;
      },
      kMessages);
  EXPECT_EQ(wrong, 0U);
}

}  // namespace
}  // namespace sluice::ledger
