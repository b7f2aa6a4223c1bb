// World: what anybody does in a step.
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "shm/base/clock.h"
#include "tests/sim/transactions/clock.h"
#include "tests/sim/transactions/world.h"

namespace sluice::transactions::sim {
namespace {

constexpr std::uint64_t kMsNs = 1'000'000;
constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::size_t kAppsMax = 6;

}  // namespace

void World::step() {
  advance_clock(below(2 * kMsNs));
  const std::uint64_t who = below(100);
  if (who < 50) return somebody_acts(true);
  if (who < 80) return turns(1 + below(4));
  if (who < 87) return time_passes();
  if (who < 91) return notice_deaths();
  if (who < 94) return operator_acts();
  if (who < 98) return app_misfortune();
  if (who < 99) {
    ++reached.refused_commits;
    return host_.refuse_next_commit();
  }
  look();
}

void World::turns(std::uint64_t count) {
  for (; count > 0 && host_.runs(); --count) {
    host_.turn();
    if (host_.ended() != Host::End::none) return;
    watch();
    advance_clock(below(kMsNs));
  }
}

void World::time_passes() {
  const std::uint64_t how = below(40);
  const std::uint64_t most = how == 0 ? 5'000 : how < 5 ? 700 : how < 15 ? 40 : how < 30 ? 8 : 1;  // seconds
  advance_clock(below(most * kSecondNs));
  turns(1);
}

// ---- applications

void World::new_app() {
  const std::string group = "group" + std::to_string(below(scenario_.groups));
  if (feeder_ && !one_in(3)) return new_app(group, App::Kind::transforms);
  new_app(group, one_in(3) ? App::Kind::plain : App::Kind::checks);
}

void World::new_app(const std::string& group, App::Kind kind) {
  apps_.push_back(std::make_unique<App>(*this, ++last_app_, group, kind));
  const char* const what = kind == App::Kind::plain    ? ""
                           : kind == App::Kind::checks ? ", with a check"
                                                       : ", and consumes";
  tell("app " + std::to_string(last_app_) + " of " + group + " begins" + what);
}

void World::somebody_acts(bool begins) {
  if (feeder_ && one_in(6)) return feeder_->act(true);
  if (!apps_.empty()) apps_[below(apps_.size())]->act(begins);
}

void World::app_misfortune() {
  if (apps_.empty()) return new_app("group0", App::Kind::checks);
  const std::size_t index = below(apps_.size());
  switch (below(6)) {
    case 0: return bury(index, true);
    case 1: return bury(index, false);
    case 2: apps_[index]->begin_claim(); return bury(index, false);
    case 3: {
      ++reached.hung;
      tell("app " + std::to_string(apps_[index]->number()) + " hangs");
      return apps_[index]->hang(monotonic_ns() + below(90 * kSecondNs));
    }
    case 4: {
      const auto id = truth_.some_undecided(random_.next());
      if (id) apps_[index]->meddle(*id);
      return;
    }
    default:
      if (apps_.size() < kAppsMax) new_app();
  }
}

void World::bury(std::size_t index, bool with_a_word) {
  App& app = *apps_[index];
  ++reached.deaths;
  tell("app " + std::to_string(app.number()) + (with_a_word ? " leaves" : " dies"));
  if (with_a_word) app.leave();
  if (app.listens()) truth_.on_listener(app.group(), false, monotonic_ns());
  if (app.session() && app.is_connected()) hung_up_.push_back(*app.session());
  apps_.erase(apps_.begin() + static_cast<std::ptrdiff_t>(index));
}

// The control thread has seen that connections were closed, or looks again at those that did not come back.
void World::notice_deaths() {
  if (!host_.runs()) return;
  for (const SessionId session : std::exchange(hung_up_, {}))
    check(host_.bus().on_peer(session, session::PeerEvent::hung_up), "a death is not seen");
  for (const SessionId session : host_.bus().disconnected_sessions())
    host_.bus().on_peer(session, session::PeerEvent::look);
}

void World::resolve(App& app, session::Resolve request) {
  const TransactionId id = request.transaction;
  const bool may = truth_.of(id).group == app.group();
  const std::uint64_t number = id.transactor() == app.transactor() ? app.number() : 0;
  tell("app " + std::to_string(app.number()) + " says of " + to_text(id) +
       (request.commit ? ": commit" : ": rollback"));
  auto heard = [this, id, may, number](Result<session::Resolution> answer) {
    if (host_.ended() != Host::End::none) return;  // nobody hears what the dead say
    tell("  told of " + to_text(id) + ": " +
         (answer ? std::string(answer->commit ? "commit" : "rollback") + (answer->was_decided ? ", before" : "")
                 : answer.error().message()));
    if (answer) {
      reached.told_later += answer->was_decided;
      truth_.on_told(id, *answer);
    } else {
      reached.conflicts += answer.error().code() == ErrorCode::conflict;
      check((answer.error().code() == ErrorCode::permission) <= !may, "who may decide is refused");
    }
    for (const auto& one : apps_)
      if (one->number() == number) return one->on_resolved(id, answer);
  };
  if (!request.acks.empty() && request.commit) tempt_fate();
  host_.bus().transactions().resolve(*app.session(), std::move(request), std::move(heard));
}

void World::take_check(App& app) {
  host_.bus().transactions().take_check(*app.session(), app.transactor(),
                                        [this, number = app.number()](Result<session::CheckRequest> request) {
                                          if (host_.ended() != Host::End::none || !request) return;
                                          for (const auto& one : apps_)
                                            if (one->number() == number) one->on_check(*request);
                                        });
}

// ---- the operator

void World::attach_operator() {
  session::HelloRequest hello;
  hello.peer = {::geteuid(), ::getegid(), ::getpid(), {}};
  hello.client_name = "operator";
  hello.resume_token = operator_token_;
  auto welcome = host_.bus().attach(std::move(hello));
  check(welcome.has_value(), welcome ? "" : "the operator cannot attach: " + welcome.error().message());
  check(welcome->resumed != operator_token_.empty(), "the operator's session is not resumed");
  operator_ = welcome->session;
  operator_token_ = welcome->token;
  if (!welcome->resumed)
    operator_region_ =
        region::Mapping::map(welcome->session_region.get(), region::Access::read_write, "the operator's region")
            .value();
}

void World::operator_acts() {
  if (!host_.runs()) return;
  const auto id = truth_.some_undecided(random_.next());
  if (!id) return;
  const std::uint64_t what = below(6);
  order(*id, what == 0   ? session::TransactionOrder::commit
             : what == 1 ? session::TransactionOrder::rollback
                         : session::TransactionOrder::recheck);
}

void World::order(TransactionId id, session::TransactionOrder order) {
  const bool decides = order != session::TransactionOrder::recheck;
  if (decides) {
    ++reached.by_hand;
    truth_.on_asked(id, order == session::TransactionOrder::commit, false);
  }
  tell("the operator orders of " + to_text(id) + ": " + std::to_string(static_cast<int>(order)));
  host_.bus().transactions().order(operator_, id, order, [this, id](Result<session::TransactionInfo> info) {
    if (host_.ended() != Host::End::none || !info) return;
    if (info->state == "committed" || info->state == "rolled_back")
      truth_.on_told(id, {info->state == "committed", true});
  });
}

}  // namespace sluice::transactions::sim
