// An order service and a cart service that agree, whatever is killed when.
//
//   checkout order DATABASE ORDER GOODS [--crash-at STEP]   places one order
//   checkout answer DATABASE                                lives, and answers what became of orders whose service died
//   checkout carts DATABASE SECONDS [--crash-at STEP]       clears carts until none came for so long
//
// STEP: before-half after-half in-transaction after-database after-resolve before-cart-database after-cart-database
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "carts.h"
#include "orders.h"

namespace {

sluice::Status make_topic(sluice::Client& client) {
  sluice::TopicConfig config;
  config.name = "orders";
  sluice::Status made = client.create_topic(config);
  // A daemon that was killed in the middle of the call may have made it or not: whoever asks again is told.
  if (!made && made.error().code() == sluice::ErrorCode::unknown) made = client.create_topic(config);
  return !made && made.error().code() != sluice::ErrorCode::exists ? made : sluice::Status();
}

sluice::Status run(const std::vector<std::string>& words) {
  SLUICE_ASSIGN(sluice::Client client, sluice::Client::connect());
  SLUICE_TRY(make_topic(client));
  if (words[0] == "carts")
    return checkout::clear_carts(client, words[1], std::chrono::seconds(std::strtol(words[2].c_str(), nullptr, 10)));
  SLUICE_ASSIGN(checkout::Orders orders, checkout::Orders::open(client, words[1]));
  if (words[0] == "order") return orders.place(words[2], words[3]);
  std::puts("answering");
  std::fflush(stdout);
  for (;;) ::pause();
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() >= 2 && words[words.size() - 2] == "--crash-at") {
    checkout::crash_at(words.back());
    words.resize(words.size() - 2);
  }
  const std::string verb = words.empty() ? "" : words[0];
  const std::size_t expected = verb == "order" ? 4 : verb == "carts" ? 3 : verb == "answer" ? 2 : 0;
  if (expected == 0 || words.size() != expected)
    return std::fprintf(stderr, "usage: checkout order DB ORDER GOODS | answer DB | carts DB SECONDS\n"), 2;
  const sluice::Status done = run(words);
  if (!done) return std::fprintf(stderr, "checkout: %s\n", done.error().message().c_str()), 1;
  return 0;
}
