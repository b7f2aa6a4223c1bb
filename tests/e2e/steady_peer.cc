// One end of a stream that never sleeps, for strace to count its system calls.
//   sluice_steady_peer produce|consume TOPIC COUNT SIZE
// The producer does not wait for room, it tries again; the consumer spins. Exit code 0: all COUNT messages moved, in
// order.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "sluice/sluice.h"

namespace {

int complain(const sluice::Error& error) {
  std::fprintf(stderr, "steady_peer: %s\n", error.message().c_str());
  return 1;
}

int produce(sluice::Client& client, const char* topic, std::uint64_t count, std::size_t size) {
  sluice::ProducerOptions options;
  options.send_timeout = sluice::Duration(0);
  auto producer = client.producer(topic, options);
  if (!producer) return complain(producer.error());
  std::vector<char> payload(size, 'x');
  for (std::uint64_t number = 0; number < count;) {
    std::memcpy(payload.data(), &number, sizeof number);
    auto sent = producer->send(std::string_view(payload.data(), payload.size()));
    if (sent) {
      ++number;
    } else if (sent.error().code() != sluice::ErrorCode::would_block) {
      return complain(sent.error());
    }
  }
  return 0;
}

int consume(sluice::Client& client, const char* topic, std::uint64_t count) {
  sluice::ReaderOptions options;
  options.from = sluice::From::earliest();
  options.wait = sluice::WaitStrategy::spin;
  auto reader = client.reader({topic}, options);
  if (!reader) return complain(reader.error());
  std::puts("attached");
  std::fflush(stdout);
  for (std::uint64_t number = 0; number < count;) {
    auto message = reader->next(std::chrono::seconds(60));
    if (!message) return complain(message.error());
    std::uint64_t found = 0;
    std::memcpy(&found, message->payload().data(), sizeof found);
    if (found != number)
      return std::fprintf(stderr, "message %llu came as %llu\n", static_cast<unsigned long long>(found),
                          static_cast<unsigned long long>(number)),
             1;
    ++number;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  auto client = sluice::Client::connect();
  if (!client) return complain(client.error());
  const std::uint64_t count = std::strtoull(argv[3], nullptr, 10);
  if (std::string(argv[1]) == "produce") return produce(*client, argv[2], count, std::strtoull(argv[4], nullptr, 10));
  return consume(*client, argv[2], count);
}
