// Handlers that are processes of their own, killed at any moment (SIGKILL): what they had not committed is gone, what
// they had is not done again.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <string>
#include <thread>

#include "tests/ledger/conformance.h"

namespace sluice::ledger {
namespace {

constexpr std::uint64_t kMessages = 150;
constexpr std::size_t kHandlers = 3;
constexpr unsigned kKills = 12;

class KillTest : public LedgerTest {
 protected:
  void SetUp() override {
    LedgerTest::SetUp();
    ASSERT_OK(session_->execute("CREATE TABLE effects (message BIGINT NOT NULL)"));
  }
  // Every message, in some order.
  Status handle_all(unsigned seed) {
    std::vector<std::uint64_t> messages(kMessages);
    std::iota(messages.begin(), messages.end(), 0);
    std::shuffle(messages.begin(), messages.end(), std::mt19937(seed));
    SLUICE_ASSIGN(const std::unique_ptr<Session> session, database_->connect());
    SLUICE_ASSIGN(Ledger ledger, Ledger::open(session->connection()));
    for (const std::uint64_t message : messages)
      SLUICE_TRY(session->transaction([&]() -> Status {
        SLUICE_ASSIGN(const Record record, ledger.record(key_of(message)));
        if (record.outcome == Outcome::repeat) return {};
        return session->execute("INSERT INTO effects VALUES (" + std::to_string(message) + ")");
      }));
    return {};
  }
  // No thread runs in this process just now.
  pid_t start_handler(unsigned seed) {
    const pid_t child = fork();
    if (child != 0) return child;
    for (;;)
      if (!handle_all(seed++)) _exit(1);
  }
};
INSTANTIATE_TEST_SUITE_P(Databases, KillTest, kKinds, kind_name);

TEST_P(KillTest, KilledHandlersLeaveNoEffectTwice) {
  std::mt19937 random(1);
  std::vector<pid_t> handlers;
  unsigned seed = 1;
  while (handlers.size() < kHandlers) handlers.push_back(start_handler(seed += 1000));
  for (unsigned kills = 0; kills < kKills + kHandlers; ++kills) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5 + random() % 30));
    pid_t& handler = handlers[kills % kHandlers];
    ASSERT_EQ(kill(handler, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(handler, &status, 0), handler);
    EXPECT_TRUE(WIFSIGNALED(status)) << "a handler ended by itself";
    if (kills < kKills) handler = start_handler(seed += 1000);
  }
  ASSERT_OK(handle_all(seed));
  EXPECT_EQ(session_->number("SELECT count(*) FROM effects").value(), static_cast<std::int64_t>(kMessages));
  EXPECT_EQ(session_->number("SELECT count(DISTINCT message) FROM effects").value(),
            static_cast<std::int64_t>(kMessages));
}

}  // namespace
}  // namespace sluice::ledger
