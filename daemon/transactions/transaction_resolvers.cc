// Transactions: what is asked of resolvers, and what they say.
#include <string>

#include <spdlog/spdlog.h>

#include "daemon/transactions/transactions.h"

namespace sluice::transactions {

using core::TransactionAction;
using core::TransactionMachine;

namespace {

// Of the halves' places as text. The system refuses a program any variable of more than 128 KiB.
constexpr std::size_t kHalvesTextSizeMax = 32 * 1024;
// A resolver that is broken fails for every transaction.
constexpr std::uint64_t kNoAnswerLogIntervalNs = 10'000'000'000;

std::string address(const session::HalfRef& half) {
  return half.topic + "/" + std::to_string(half.partition) + "@" + std::to_string(half.position.value);
}

}  // namespace

void Transactions::ask_resolver(const TransactionAction& action, const TransactionMachine::View& view,
                                std::uint64_t now_ns) {
  if (resolvers_ == nullptr) {
    machine_.resolver_ended(action.serial, std::nullopt, now_ns);
    return;
  }
  resolve::Question question{action.serial, action.transaction, view.group, {}, 0};
  for (std::size_t i = 0; i < view.halves.size(); ++i) {
    const std::string text = address(ref_of(view.halves[i].place, view.halves[i].position));
    if (question.halves.size() + 1 + text.size() > kHalvesTextSizeMax) {
      question.halves_left_out = view.halves.size() - i;
      break;
    }
    question.halves += (i == 0 ? "" : " ") + text;
  }
  spdlog::debug("resolver is asked transaction={} group={}", to_text(view.transaction), view.group);
  ++resolver_runs_;
  resolvers_->ask(std::move(question));
}

bool Transactions::take_resolver_answers(std::uint64_t now_ns) {
  if (resolver_runs_ == 0) return false;
  const std::vector<resolve::Answer> answers = resolvers_->take_answers();
  for (const resolve::Answer& answer : answers) {
    --resolver_runs_;
    resolver_answers_.count(answer.verdict);
    const bool needed = machine_.resolver_ended(answer.serial, answer.verdict, now_ns);
    if (needed && !answer.verdict) log_no_answer(answer, now_ns);
  }
  return !answers.empty();
}

void Transactions::log_no_answer(const resolve::Answer& answer, std::uint64_t now_ns) {
  const auto view = machine_.find(answer.transaction);
  if (!view) return;
  NoAnswers& so_far = no_answers_[view->group];
  if (so_far.logged_ns != 0 && now_ns - so_far.logged_ns < kNoAnswerLogIntervalNs) {
    ++so_far.unlogged;
    return;
  }
  spdlog::warn(
      "resolver gave no answer, it is asked again later transaction={} group={} reason=\"{}\" stderr=\"{}\" "
      "unlogged_before={}",
      to_text(answer.transaction), view->group, answer.why, answer.said, so_far.unlogged);
  so_far = {now_ns, 0};
}

}  // namespace sluice::transactions
