// Sends a message and reads it back, in place, out of shared memory.
#include <cstdio>

#include "sluice/sluice.h"

int main() {
  auto client = sluice::Client::connect();
  if (!client) return std::fprintf(stderr, "hello: %s\n", client.error().message().c_str()), 3;
  sluice::TopicConfig config;
  config.name = "hello";
  if (auto made = client->create_topic(config); !made && made.error().code() != sluice::ErrorCode::exists)
    return std::fprintf(stderr, "hello: %s\n", made.error().message().c_str()), 4;

  auto reader = client->reader({"hello"}).value();  // from now on
  auto producer = client->producer("hello").value();
  auto receipt = producer.send("Hello, neighbour").value();  // committed: survives the death of any process
  if (auto durable = producer.flush(); !durable)             // durable: survives power loss
    return std::fprintf(stderr, "hello: %s\n", durable.error().message().c_str()), 7;

  auto message = reader.next().value();
  std::printf("%s: %.*s\n", message.address().to_string().c_str(), static_cast<int>(message.text().size()),
              message.text().data());
  return message.position() == receipt.position ? 0 : 1;
}
