// One message as text: as JSON, or as a format string says. Written by hand rather than through a JSON library, because
// consume prints millions of them.
// Thread safety: values and pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "shm/base/result.h"
#include "shm/base/types.h"

namespace sluice::cli {

// What is printed of a message. Views into the message.
struct MessageFields {
  std::string_view topic;
  PartitionNumber partition = 0;
  Position position;
  ProducerId producer;
  Sequence sequence;
  std::uint64_t time_ns = 0;  // since the epoch; 0: none
  std::string_view key;
  std::string_view tag;
  std::vector<std::pair<std::string_view, std::string_view>> headers;
  std::string_view payload;
  std::uint32_t delivered = 1;  // without a group every message is handed out once
  std::uint32_t failed = 0;
};

bool is_utf8(std::string_view bytes);
std::string base64(std::string_view bytes);
// "2024-05-01T12:00:00.000000001Z"
std::string rfc3339(std::uint64_t time_ns);

// Appends a JSON string, quotes included. `text` is UTF-8.
void append_json_string(std::string& out, std::string_view text);
// Appends one line: topic partition position producer sequence timestamp key tag headers delivered failed payload.
// Bytes that are not UTF-8 are in base64 under the name with _base64 (payload_base64, key_base64, headers_base64).
void append_json(std::string& out, const MessageFields& message);

// A --format text, checked and taken apart once.
//   %t topic %p partition %o position %k key %s payload %T time %h headers %% percent · \n \t \\ newline, tab,
//   backslash
class Format {
 public:
  // invalid: an unknown token, with its place.
  static Result<Format> parse(std::string_view text);
  void append(std::string& out, const MessageFields& message) const;

 private:
  struct Piece {
    char token;  // of the above, or 0: literal
    std::string literal;
  };
  std::vector<Piece> pieces_;
};

}  // namespace sluice::cli
