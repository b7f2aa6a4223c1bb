// More than a week of a group's life, in simulated hours: messages are delivered one to five times, some fail and are
// parked, some are handled and parked all the same (their acks never came through), the ledger forgets every hour, and
// late handlers come back with what was settled long ago. After a week the dead letters are redriven. Every effect is
// there once.
#include <map>
#include <string>

#include "tests/ledger/conformance.h"

namespace sluice::ledger {
namespace {

constexpr unsigned kHours = 190;
constexpr unsigned kRedriveAt = 7 * 24 + 5;
constexpr unsigned kMessagesPerHour = 4;

enum class State : std::uint8_t { waiting, settled, parked, redriven };

// What the daemon knows of one partition of a group.
class Group {
 public:
  void append() { states_.push_back(State::waiting); }
  std::uint64_t end() const { return states_.size(); }
  State state(std::uint64_t message) const { return states_[message]; }
  void set(std::uint64_t message, State state) { states_[message] = state; }
  Horizon horizon() const {
    std::uint64_t below = 0;
    while (below < end() && states_[below] != State::waiting) ++below;
    std::vector<std::uint64_t> parked;
    for (std::uint64_t message = 0; message < end(); ++message)
      if (states_[message] == State::parked || states_[message] == State::redriven) parked.push_back(message);
    return horizon_at(below, parked);
  }

 private:
  std::vector<State> states_;
};

class WeekTest : public LedgerTest {
 protected:
  void handle(std::uint64_t message) {
    if (record(message) == Outcome::first) ++effects_[message];
  }
  void handle_some_times(std::uint64_t message) {
    for (auto times = 1 + random_() % 5; times > 0; --times) handle(message);
  }
  void deliver(std::uint64_t message) {
    switch (random_() % 10) {
      case 0: group_.set(message, State::parked); return;  // it fails each time
      case 1:
        handle_some_times(message);
        group_.set(message, State::parked);
        return;
      case 2: return;  // in somebody's hands still: the horizon waits
      default: handle_some_times(message); group_.set(message, State::settled);
    }
  }
  void forget_all() {
    while (forget(group_.horizon()).more) {
    }
  }
  void an_hour() {
    for (unsigned i = 0; i < kMessagesPerHour; ++i) group_.append();
    const std::uint64_t oldest = group_.end() > 40 ? group_.end() - 40 : 0;
    for (std::uint64_t message = oldest; message < group_.end(); ++message)
      if (group_.state(message) == State::waiting) deliver(message);
    forget_all();
    // A handler that had stopped in the middle goes on.
    const std::uint64_t old = random_() % group_.end();
    if (group_.state(old) == State::settled) handle(old);
  }
  std::vector<std::uint64_t> all(State state) const {
    std::vector<std::uint64_t> found;
    for (std::uint64_t message = 0; message < group_.end(); ++message)
      if (group_.state(message) == state) found.push_back(message);
    return found;
  }

  std::mt19937 random_{20'26};
  Group group_;
  std::map<std::uint64_t, unsigned> effects_;
};
INSTANTIATE_TEST_SUITE_P(Databases, WeekTest, kKinds, kind_name);

TEST_P(WeekTest, ADeadLetterRedrivenAfterAWeekIsHandledOnce) {
  std::vector<std::uint64_t> letters;
  unsigned handled_before = 0;
  for (unsigned hour = 0; hour < kHours; ++hour) {
    an_hour();
    if (hour == kRedriveAt) {
      letters = all(State::parked);
      for (const std::uint64_t letter : letters) group_.set(letter, State::redriven);
    }
    // A few of them in each hour from then on, so that the ledger forgets while they are on their way.
    for (unsigned i = 0; hour >= kRedriveAt && i < 20 && !letters.empty(); ++i) {
      handled_before += effects_[letters.back()];
      handle_some_times(letters.back());
      group_.set(letters.back(), State::settled);
      letters.pop_back();
    }
  }
  ASSERT_TRUE(letters.empty());
  EXPECT_GT(handled_before, 10U) << "of the letters some had been handled, a week ago";
  for (const State open : {State::waiting, State::parked})
    for (const std::uint64_t message : all(open)) {
      handle_some_times(message);
      group_.set(message, State::settled);
    }

  for (std::uint64_t message = 0; message < group_.end(); ++message)
    EXPECT_EQ(effects_[message], 1U) << "message " << message;
  forget_all();
  EXPECT_EQ(rows(), 0);
  EXPECT_EQ(rows("parked"), 0);
}

}  // namespace
}  // namespace sluice::ledger
