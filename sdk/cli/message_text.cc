#include "sdk/cli/message_text.h"

#include <array>
#include <charconv>
#include <chrono>
#include <cstring>

namespace sluice::cli {
namespace {

void append_number(std::string& out, std::uint64_t value) {
  std::array<char, 20> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  out.append(digits.data(), end);
}

// Exactly `width` digits.
void append_padded(std::string& out, std::uint64_t value, std::size_t width) {
  std::array<char, 20> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  const auto size = static_cast<std::size_t>(end - digits.data());
  out.append(width > size ? width - size : 0, '0');
  out.append(digits.data(), end);
}

void append_rfc3339(std::string& out, std::uint64_t time_ns) {
  constexpr std::uint64_t kSecondNs = 1'000'000'000;
  const std::uint64_t seconds = time_ns / kSecondNs;
  const std::chrono::sys_days day{std::chrono::days(static_cast<std::int64_t>(seconds / 86400))};
  const std::chrono::year_month_day date(day);
  const std::uint64_t of_day = seconds % 86400;
  append_padded(out, static_cast<std::uint64_t>(static_cast<int>(date.year())), 4);
  out += '-';
  append_padded(out, static_cast<unsigned>(date.month()), 2);
  out += '-';
  append_padded(out, static_cast<unsigned>(date.day()), 2);
  out += 'T';
  append_padded(out, of_day / 3600, 2);
  out += ':';
  append_padded(out, of_day / 60 % 60, 2);
  out += ':';
  append_padded(out, of_day % 60, 2);
  out += '.';
  append_padded(out, time_ns % kSecondNs, 9);
  out += 'Z';
}

// Bytes of a well-formed UTF-8 sequence at the front (no surrogates, nothing overlong), 0 if there is none.
std::size_t sequence_size(std::string_view bytes) {
  const auto at = [&](std::size_t i) { return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u; };
  const auto follows = [&](std::size_t i) { return (at(i) & 0xc0) == 0x80; };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    if (first == 0xe0 && at(1) < 0xa0) return 0;
    if (first == 0xed && at(1) > 0x9f) return 0;
    return follows(1) && follows(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    if (first == 0xf0 && at(1) < 0x90) return 0;
    if (first == 0xf4 && at(1) > 0x8f) return 0;
    return follows(1) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
  const bool text = is_utf8(value);
  out += ",\"";
  out += name;
  out += text ? "\":" : "_base64\":";
  if (text) {
    append_json_string(out, value);
  } else {
    out += '"';
    out += base64(value);
    out += '"';
  }
}

// "headers":{…}, and what is not UTF-8 in "headers_base64":{…}.
void append_headers(std::string& out, const MessageFields& message) {
  std::string encoded;
  bool first = true;
  out += ",\"headers\":{";
  for (const auto& [name, value] : message.headers) {
    if (!is_utf8(name) || !is_utf8(value)) {
      if (!encoded.empty()) encoded += ',';
      append_json_string(encoded, is_utf8(name) ? name : base64(name));
      encoded += ":\"" + base64(value) + '"';
      continue;
    }
    if (!first) out += ',';
    first = false;
    append_json_string(out, name);
    out += ':';
    append_json_string(out, value);
  }
  out += '}';
  if (!encoded.empty()) out += ",\"headers_base64\":{" + encoded + '}';
}

}  // namespace

bool is_utf8(std::string_view bytes) {
  while (!bytes.empty()) {
    // Eight ASCII bytes at a time: most payloads are nothing else.
    std::uint64_t word;
    if (bytes.size() >= sizeof word) {
      std::memcpy(&word, bytes.data(), sizeof word);
      if ((word & 0x8080'8080'8080'8080) == 0) {
        bytes.remove_prefix(sizeof word);
        continue;
      }
    }
    const std::size_t size = sequence_size(bytes);
    if (size == 0) return false;
    bytes.remove_prefix(size);
  }
  return true;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (; !bytes.empty(); bytes.remove_prefix(std::min<std::size_t>(3, bytes.size()))) {
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i)
      group = group << 8 | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u);
    for (std::size_t i = 0; i < 4; ++i) out += i <= bytes.size() ? kAlphabet[group >> (18 - 6 * i) & 63] : '=';
  }
  return out;
}

std::string rfc3339(std::uint64_t time_ns) {
  std::string out;
  append_rfc3339(out, time_ns);
  return out;
}

void append_json_string(std::string& out, std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out += '"';
  std::size_t plain = 0;  // start of what needs no escape
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') [[likely]]
      continue;
    out.append(text, plain, i - plain);
    plain = i + 1;
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default: (((out += "\\u00") += kHex[c >> 4]) += kHex[c & 15]);
    }
  }
  out.append(text, plain, text.size() - plain);
  out += '"';
}

void append_json(std::string& out, const MessageFields& message) {
  out += "{\"topic\":";
  append_json_string(out, message.topic);
  out += ",\"partition\":";
  append_number(out, message.partition);
  out += ",\"position\":";
  append_number(out, message.position.value);
  out += ",\"producer\":";
  append_number(out, message.producer.value);
  out += ",\"sequence\":";
  append_number(out, message.sequence.value);
  out += ",\"timestamp\":";
  if (message.time_ns == 0) {
    out += "null";
  } else {
    out += '"';
    append_rfc3339(out, message.time_ns);
    out += '"';
  }
  if (message.key.empty()) {
    out += ",\"key\":null";
  } else {
    append_field(out, "key", message.key);
  }
  if (message.tag.empty()) {
    out += ",\"tag\":null";
  } else {
    append_field(out, "tag", message.tag);
  }
  append_headers(out, message);
  out += ",\"delivered\":";
  append_number(out, message.delivered);
  out += ",\"failed\":";
  append_number(out, message.failed);
  append_field(out, "payload", message.payload);
  out += "}\n";
}

Result<Format> Format::parse(std::string_view text) {
  Format format;
  const auto literal = [&](char c) {
    if (format.pieces_.empty() || format.pieces_.back().token != 0) format.pieces_.push_back({0, {}});
    format.pieces_.back().literal += c;
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (c == '%' && next != '\0' && std::string_view("tpoksTh").find(next) != std::string_view::npos) {
      format.pieces_.push_back({next, {}});
    } else if (c == '%' && next == '%') {
      literal('%');
    } else if (c == '\\' && (next == 'n' || next == 't' || next == '\\')) {
      literal(next == 'n' ? '\n' : next == 't' ? '\t' : '\\');
    } else if (c == '%' || c == '\\') {
      return fail(ErrorCode::invalid, "the format \"" + std::string(text) + "\" has an unknown token \"" +
                                          std::string(text.substr(i, 2)) + "\" at byte " + std::to_string(i) +
                                          "; known are %t %p %o %k %s %T %h %% \\n \\t \\\\");
    } else {
      literal(c);
      continue;
    }
    ++i;
  }
  return format;
}

void Format::append(std::string& out, const MessageFields& message) const {
  for (const Piece& piece : pieces_) {
    switch (piece.token) {
      case 't': out += message.topic; break;
      case 'p': append_number(out, message.partition); break;
      case 'o': append_number(out, message.position.value); break;
      case 'k': out += message.key; break;
      case 's': out += message.payload; break;
      case 'T':
        if (message.time_ns != 0) append_rfc3339(out, message.time_ns);
        break;
      case 'h':
        for (std::size_t i = 0; i < message.headers.size(); ++i) {
          if (i != 0) out += ',';
          out += message.headers[i].first;
          out += '=';
          out += message.headers[i].second;
        }
        break;
      default: out += piece.literal;
    }
  }
}

}  // namespace sluice::cli
