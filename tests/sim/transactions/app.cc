#include "tests/sim/transactions/app.h"

#include <algorithm>
#include <utility>

#include "shm/base/clock.h"
#include "shm/layout/trailer.h"
#include "tests/sim/transactions/world.h"

namespace sluice::transactions::sim {
namespace {

constexpr std::size_t kOwnMax = 4;  // transactions under way

}  // namespace

App::App(World& world, std::uint64_t number, std::string group, Kind kind)
    : world_(world),
      number_(number),
      group_(std::move(group)),
      has_check_(kind == Kind::checks),
      connection_(world, "app" + std::to_string(number), world.topics()),
      transformer_(kind == Kind::transforms ? std::make_unique<Transformer>(world) : nullptr) {}

void App::act(bool begins) {
  if (monotonic_ns() < hangs_until_ns_) return;
  if (!connected_ && world_.host().runs() && world_.below(2) == 0) {
    connect();
    return;
  }
  if (has_check_ && connected_ && !listens_) return listen();
  if (check_ && world_.below(2) == 0) return answer_check();
  if (transformer_ && connected_ && world_.host().runs() && world_.below(2) == 0)
    return transformer_->act(*connection_.session());
  if (!connection_.has_lanes()) return;
  if ((begins || transformer_) && own_.size() < kOwnMax && (own_.empty() || world_.below(4) == 0)) return begin(begins);
  if (!own_.empty()) go_on(own_[world_.below(own_.size())]);
}

// ---- the connection

bool App::connect() {
  if (!connection_.attach()) return false;
  const auto opened = world_.host().bus().transactions().open_transactor(*connection_.session(), group_, transactor_);
  check(opened.has_value(), opened ? "" : "opening a transactor fails: " + opened.error().message());
  check(transactor_ == ProducerId() || *opened == transactor_, "a transactor goes on under another id");
  transactor_ = *opened;
  connected_ = true;
  return true;
}

void App::on_daemon_gone(bool memory_kept) {
  connected_ = listens_ = false;
  check_.reset();
  if (transformer_) transformer_->on_daemon_gone();
  connection_.on_daemon_gone(memory_kept);
  for (Own& own : own_) own.waits = false;
  if (memory_kept) return;
  // What was not known to be durable may be gone.
  for (Own& own : own_) {
    const TrueTransaction& transaction = world_.truth().of(own.id);
    own.broken |= std::any_of(transaction.halves.begin(), transaction.halves.end(),
                              [](const TrueHalf& half) { return !half.durable; });
  }
}

void App::leave() {
  if (!connected_ || !world_.host().runs()) return;
  if (transformer_) transformer_->leave(*connection_.session());
  if (!world_.host().runs()) return;
  check(world_.host().bus().transactions().close_transactor(*connection_.session(), transactor_).has_value(),
        "closing a transactor fails");
  if (std::exchange(listens_, false)) world_.truth().on_listener(group_, false, monotonic_ns());
  connected_ = false;
}

// ---- checks

void App::listen() {
  if (!world_.host().runs()) return;
  listens_ = true;
  world_.truth().on_listener(group_, true, monotonic_ns());
  world_.take_check(*this);
}

// By its database. What is not there yet it may rule out, so that nothing of it is committed later.
void App::answer_check() {
  if (!connected_ || !world_.host().runs()) return;
  const session::CheckRequest request = *std::exchange(check_, std::nullopt);
  if (request.transaction != TransactionId()) {
    TrueTransaction& transaction = world_.truth().of(request.transaction);
    check(transaction.group == group_, "one of another group is asked about " + to_text(request.transaction));
    ++world_.reached.checks;
    if (!transaction.applied && world_.below(2) == 0) transaction.applied = false;
    Verdict verdict = Verdict::unknown;
    if (transaction.applied && world_.below(4) != 0)
      verdict = *transaction.applied ? Verdict::commit : Verdict::rollback;
    if (verdict == Verdict::unknown)
      world_.truth().on_unknown(request.transaction);
    else
      world_.truth().on_asked(request.transaction, verdict == Verdict::commit, true);
    world_.tell("app " + std::to_string(number_) + " answers the check of " + to_text(request.transaction) + ": " +
                std::to_string(static_cast<int>(verdict)));
    const Status answered = world_.host().bus().transactions().answer_check(
        *connection_.session(), transactor_, request.transaction, request.serial, verdict);
    check(answered.has_value(), answered ? "" : "answering a check fails: " + answered.error().message());
  }
  world_.take_check(*this);
}

// ---- transactions

void App::begin(bool for_no_input) {
  if (transactor_ == ProducerId()) return;
  Own own;
  if (transformer_) {
    own.inputs = transformer_->choose();
    own.named = transformer_->describe(own.inputs).value_or(own.named);
  }
  if (own.inputs.empty() && (!for_no_input || (transformer_ && !world_.one_in(8)))) return;
  own.id = TransactionId::make(transactor_, ++last_number_);
  own.wanted = 1 + static_cast<std::uint32_t>(world_.below(4));
  world_.truth().begin(own.id, group_, has_check_);
  world_.reached.with_inputs += !own.inputs.empty();
  std::string inputs;
  for (const Delivery& input : own.inputs) inputs += " " + to_text(input.address);
  world_.tell("app " + std::to_string(number_) + " begins " + to_text(own.id) +
              (inputs.empty() ? "" : " for" + inputs));
  own_.push_back(std::move(own));
}

void App::go_on(Own& own) {
  if (own.waits) return;
  if (own.resolving) return resolve(own);
  if (!own.broken && world_.truth().of(own.id).halves.size() < own.wanted) {
    send(own);
  } else if (own.broken || all_durable(own)) {
    decide(own);
  }
}

bool App::send(Own& own) {
  Connection::Lane& lane = connection_.some_lane();
  const std::string payload(world_.below(4) == 0 ? world_.below(9'000) : world_.below(300), 'h');
  layout::TrailerBuilder trailer;
  check(trailer.half({own.id, has_check_, group_}).has_value(), "a half's trailer does not fit");
  ring::Appended appended;
  const ring::AppendResult result = lane.appender.append(
      {std::as_bytes(std::span(payload)), trailer.finish(), realtime_ns()}, appended, layout::RecordKind::half);
  if (result != ring::AppendResult::ok) {
    check(result == ring::AppendResult::no_room || result == ring::AppendResult::gate_closed,
          "a half cannot be sent, for no good reason");
    own.broken |= world_.below(8) == 0;
    return false;
  }
  world_.truth().on_half(own.id, {lane.place, appended.position, appended.end});
  world_.tell("app " + std::to_string(number_) + " sends a half of " + to_text(own.id) + " " +
              std::to_string(lane.place.topic.value) + "/" + std::to_string(lane.place.partition) + "@" +
              std::to_string(appended.position.value));
  return true;
}

void App::begin_claim() {
  if (!connection_.has_lanes()) return;
  layout::TrailerBuilder trailer;
  const TransactionId id = TransactionId::make(transactor_, UINT32_MAX);
  check(trailer.half({id, has_check_, group_}).has_value(), "a half's trailer does not fit");
  ring::OpenClaim claim;
  static_cast<void>(
      connection_.some_lane().appender.claim(100, trailer.finish().size(), layout::RecordKind::half, claim));
}

bool App::all_durable(const Own& own) {
  bool all = true;
  for (TrueHalf& half : world_.truth().of(own.id).halves) {
    if (half.durable) continue;
    half.durable = connection_.lane_to(half.place).is_durable(half.end);
    all &= half.durable;
  }
  return all;
}

// The local transaction, if there is one.
void App::decide(Own& own) {
  TrueTransaction& transaction = world_.truth().of(own.id);
  own.resolving = true;
  own.commit = !own.broken && world_.below(3) != 0;
  if (!has_check_) return;
  if (!transaction.applied) transaction.applied = own.commit;
  own.commit = *transaction.applied;  // another may have ruled it out
}

void App::resolve(Own& own) {
  if (!connected_ || !world_.host().runs()) return;
  if (world_.truth().of(own.id).halves.empty()) return end(own.id, false);  // nobody but it knows of it
  if (own.inputs.empty()) return ask(own, {});
  // Most wait until they are a member again; who does not names what the daemon does not know.
  if (own.commit && !transformer_->is_joined() && !world_.one_in(8)) return;
  auto acks = transformer_->describe(own.inputs);
  if (!acks && !own.named.empty() && world_.one_in(2))
    acks = own.named;  // as they were called once: it is the daemon that must refuse
  own.commit &= acks.has_value();
  if (own.commit) world_.acks().on_asked(own.id, own.inputs);
  ask(own, acks ? std::move(*acks) : std::vector<session::TransactionAck>());  // with a rollback they mean nothing
}

void App::ask(Own& own, std::vector<session::TransactionAck> acks) {
  session::Resolve request{transactor_, own.id, own.commit, {}, std::move(acks)};
  for (const TrueHalf& half : world_.truth().of(own.id).halves)
    request.halves.push_back({{}, half.place.topic, half.place.partition, half.position});
  own.waits = true;
  world_.truth().on_asked(own.id, own.commit, true);
  world_.resolve(*this, std::move(request));
}

void App::end(TransactionId id, bool committed) {
  const auto own = std::find_if(own_.begin(), own_.end(), [&](const Own& one) { return one.id == id; });
  const std::vector<Delivery> inputs = std::move(own->inputs);
  own_.erase(own);
  if (inputs.empty()) return;
  if (committed)
    transformer_->on_committed(id, inputs);
  else
    transformer_->on_rolled_back(inputs);
}

void App::on_resolved(TransactionId id, const Result<session::Resolution>& answer) {
  const auto own = std::find_if(own_.begin(), own_.end(), [&](const Own& one) { return one.id == id; });
  if (own == own_.end()) return;
  own->waits = false;
  if (answer) return end(id, answer->commit);
  const TrueTransaction& transaction = world_.truth().of(id);
  const ErrorCode code = answer.error().code();
  if (code == ErrorCode::conflict && !own->inputs.empty()) {
    ++world_.reached.acks_refused;
    world_.acks().on_refused(id);
    own->commit = false;
  } else if (code == ErrorCode::conflict) {
    check(transaction.interfered || !transaction.check_back,
          "the daemon knows other halves than were sent: " + answer.error().message());
    own->commit = false;
  } else if (code == ErrorCode::not_found) {
    // Its halves were lost with memory, or the scan has not come to them.
    check(std::none_of(transaction.halves.begin(), transaction.halves.end(),
                       [](const TrueHalf& half) { return half.durable; }),
          "a transaction of which halves are durable is not found: " + to_text(id));
    if (own->broken) end(id, false);
  } else {
    check(is_passing(answer.error()), "resolving fails: " + answer.error().message());
  }
}

void App::meddle(TransactionId id) {
  if (!connected_ || !world_.host().runs()) return;
  const bool commit = world_.below(2) == 0;
  session::Resolve request{transactor_, id, commit, {}, {}};
  const bool may = world_.truth().of(id).group == group_;
  if (id.transactor() == transactor_) return;
  if (may) world_.truth().on_asked(id, commit, false);
  world_.resolve(*this, std::move(request));
}

}  // namespace sluice::transactions::sim
