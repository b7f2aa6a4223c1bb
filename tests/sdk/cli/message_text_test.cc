#include "sdk/cli/message_text.h"

#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace sluice::cli {
namespace {

using nlohmann::json;

MessageFields sample() {
  MessageFields m;
  m.topic = "orders";
  m.partition = 3;
  m.position = Position(4096);
  m.producer = ProducerId(17);
  m.sequence = Sequence(5);
  m.time_ns = 1'714'564'800'000'000'001;
  m.key = "k\"1";
  m.tag = "new";
  m.headers = {{"a", "1"}, {"b", "two\n"}};
  m.payload = "hello";
  return m;
}

json parsed(const MessageFields& message) {
  std::string out;
  append_json(out, message);
  EXPECT_EQ(out.back(), '\n');
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 1) << "one object a line";
  return json::parse(out);
}

TEST(MessageJson, has_every_field_of_the_contract) {
  const json j = parsed(sample());
  EXPECT_EQ(j["topic"], "orders");
  EXPECT_EQ(j["partition"], 3);
  EXPECT_EQ(j["position"], 4096);
  EXPECT_EQ(j["producer"], 17);
  EXPECT_EQ(j["sequence"], 5);
  EXPECT_EQ(j["timestamp"], "2024-05-01T12:00:00.000000001Z");
  EXPECT_EQ(j["key"], "k\"1");
  EXPECT_EQ(j["tag"], "new");
  EXPECT_EQ(j["headers"], json({{"a", "1"}, {"b", "two\n"}}));
  EXPECT_EQ(j["delivered"], 1);
  EXPECT_EQ(j["failed"], 0);
  EXPECT_EQ(j["payload"], "hello");
  EXPECT_EQ(j.size(), 12u);
}

TEST(MessageJson, what_is_not_there_is_null_or_empty) {
  const json j = parsed(MessageFields{});
  EXPECT_TRUE(j["timestamp"].is_null());
  EXPECT_TRUE(j["key"].is_null());
  EXPECT_TRUE(j["tag"].is_null());
  EXPECT_EQ(j["headers"], json::object());
  EXPECT_EQ(j["payload"], "");
}

TEST(MessageJson, bytes_that_are_not_utf8_are_in_base64_under_their_own_name) {
  MessageFields m = sample();
  m.payload = "\xff\xfe";
  m.key = "\x80";
  m.headers = {{"good", "1"}, {"raw", "\xff"}};
  const json j = parsed(m);
  EXPECT_FALSE(j.contains("payload"));
  EXPECT_EQ(j["payload_base64"], "//4=");
  EXPECT_EQ(j["key_base64"], "gA==");
  EXPECT_EQ(j["headers"], json({{"good", "1"}}));
  EXPECT_EQ(j["headers_base64"], json({{"raw", "/w=="}}));
}

TEST(MessageJson, any_payload_comes_back_as_it_was) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 500; ++i) {
    std::string payload(random() % 40, '\0');
    const bool ascii = i % 2 == 0;
    for (char& c : payload) c = static_cast<char>(ascii ? random() % 128 : random());
    MessageFields m = sample();
    m.payload = payload;
    const json j = parsed(m);
    if (j.contains("payload")) {
      EXPECT_EQ(j["payload"].get<std::string>(), payload);
    } else {
      EXPECT_FALSE(ascii);
      EXPECT_EQ(j["payload_base64"].get<std::string>(), base64(payload));
    }
  }
}

TEST(Utf8, well_formed_is_told_from_overlong_surrogates_and_truncated) {
  for (const char* good : {"", "plain ascii text", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf",
                           "\xee\x80\x80", "\xf4\x8f\xbf\xbf", "12345678\xc3\xa4"})
    EXPECT_TRUE(is_utf8(good)) << good;
  for (const char* bad : {"\x80", "\xc0\xaf", "\xc1\xbf", "\xc3", "\xe0\x80\x80", "\xe2\x82", "\xed\xa0\x80",
                          "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "12345678\xff"})
    EXPECT_FALSE(is_utf8(bad)) << bad;
}

TEST(Base64, of_every_remainder_is_as_in_rfc4648) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foob"), "Zm9vYg==");
  EXPECT_EQ(base64("fooba"), "Zm9vYmE=");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
}

std::string formatted(std::string_view format, const MessageFields& message) {
  const auto parsed_format = Format::parse(format);
  EXPECT_TRUE(parsed_format) << format;
  std::string out;
  parsed_format->append(out, message);
  return out;
}

TEST(Format, every_token_is_replaced) {
  EXPECT_EQ(formatted("%t/%p@%o %k=%s [%h] %T%%\\n\\t\\\\", sample()),
            "orders/3@4096 k\"1=hello [a=1,b=two\n] 2024-05-01T12:00:00.000000001Z%\n\t\\");
  EXPECT_EQ(formatted("", sample()), "");
  EXPECT_EQ(formatted("plain", sample()), "plain");
}

TEST(Format, payload_bytes_are_exact) {
  MessageFields m = sample();
  m.payload = std::string_view("\0%s\\n\xff", 6);
  EXPECT_EQ(formatted("%s", m), m.payload);
}

TEST(Format, an_unknown_token_is_refused_with_its_place) {
  for (const char* text : {"a%x", "a%", "a\\x", "a\\"}) {
    const auto parsed_format = Format::parse(text);
    ASSERT_FALSE(parsed_format) << text;
    EXPECT_NE(parsed_format.error().context().find("at byte 1"), std::string::npos);
  }
}

TEST(MessageJson, tells_how_often_a_message_was_handed_out_and_failed) {
  MessageFields message;
  std::string out;
  append_json(out, message);
  EXPECT_NE(out.find("\"delivered\":1,\"failed\":0,"), std::string::npos) << out;
  message.delivered = 12;
  message.failed = 11;
  out.clear();
  append_json(out, message);
  EXPECT_NE(out.find("\"delivered\":12,\"failed\":11,"), std::string::npos) << out;
}

}  // namespace
}  // namespace sluice::cli
