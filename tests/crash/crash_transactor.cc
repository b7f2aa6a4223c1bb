// A producer that is going to be killed with a transaction of its own open: sends one half, waits until it is durable,
// leaves word of the transaction in a file, and then does nothing any more.
//
//   sluice_crash_transactor SOCKET TOPIC GROUP FILE CHECK_BACK
//     FILE        where "id\n" is written, under another name first
//     CHECK_BACK  yes: with a check, which answers unknown; no: its death rolls the transaction back
// Exit codes: 1 something failed (stderr says what) · 2 usage. It does not end by itself.
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "sluice/sluice.h"

namespace {

int fail(const char* doing, const sluice::Error& error) {
  std::fprintf(stderr, "crash_transactor: %s: %s\n", doing, error.message().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  sluice::ConnectOptions connect;
  connect.socket = argv[1];
  auto client = sluice::Client::connect(connect);
  if (!client) return fail("connecting", client.error());
  sluice::TransactionalOptions options;
  options.group = argv[3];
  if (std::string(argv[5]) == "yes")
    options.check = [](const sluice::TransactionCheck&) { return sluice::Verdict::unknown; };
  auto producer = client->transactional_producer(options);
  if (!producer) return fail("opening", producer.error());
  auto transaction = producer->begin();
  if (!transaction) return fail("beginning", transaction.error());
  const std::string id = to_text(transaction->id());
  if (const auto sent = transaction->send(argv[2], id); !sent) return fail("sending", sent.error());
  if (const auto prepared = transaction->prepare(); !prepared) return fail("preparing", prepared.error());
  const std::string file = argv[4];
  std::ofstream(file + ".new") << id << "\n";
  if (std::rename((file + ".new").c_str(), file.c_str()) != 0) return 1;
  for (;;) ::pause();
}
