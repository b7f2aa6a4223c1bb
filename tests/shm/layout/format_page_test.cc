// docs/FORMAT.md is checked against the code: its worked example is parsed out of the page, byte by byte.
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "shm/layout/record.h"
#include "shm/layout/regions.h"
#include "shm/layout/segment.h"
#include "shm/layout/trailer.h"

namespace sluice::layout {
namespace {

struct Example {
  std::uint64_t first_position = 0;
  std::vector<std::byte> bytes;
};

std::string read_page() {
  std::ifstream file(SLUICE_FORMAT_PAGE);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// The lines of the page's ```hex block: position, then bytes.
Example parse_example() {
  std::istringstream page(read_page());
  Example example;
  std::string line;
  while (std::getline(page, line) && line != "```hex") {
  }
  while (std::getline(page, line) && line != "```") {
    std::istringstream words(line);
    std::string word;
    words >> word;
    const std::uint64_t position = std::stoull(word, nullptr, 16);
    if (example.bytes.empty()) example.first_position = position;
    EXPECT_EQ(position, example.first_position + example.bytes.size()) << line;
    while (words >> word) example.bytes.push_back(static_cast<std::byte>(std::stoul(word, nullptr, 16)));
  }
  return example;
}

TEST(FormatPage, TheWorkedExampleIsWhatItSays) {
  Example example = parse_example();
  ASSERT_EQ(example.first_position, 0x40000u);
  ASSERT_EQ(example.bytes.size(), 0x108u);
  std::vector<std::uint64_t> aligned(64);
  auto* at = reinterpret_cast<std::byte*>(aligned.data());
  std::copy(example.bytes.begin(), example.bytes.end(), at);

  SegmentHeader segment;
  ASSERT_EQ(read_segment_header(at, TopicId(7), 1, SegmentNumber(2), segment), SegmentCheck::ok);
  EXPECT_EQ(segment.incarnation, 3u);
  EXPECT_EQ(segment.durable_position, 0x3ff00u);
  EXPECT_EQ(segment.flags, kSegmentFlagChecksums);
  EXPECT_EQ(segment.checksum, 0x1a31'3b6cu);

  RecordFields fields;
  const std::uint64_t room = 0x20000 - 0x40;
  ASSERT_EQ(read_header(at + 0x40, room, fields), HeaderCheck::record);
  EXPECT_EQ(fields.claim, ClaimWord::make(ProducerId(5), 1, RecordKind::data, true, RecordState::committed));
  EXPECT_EQ(fields.sequence, Sequence(1));
  EXPECT_EQ(fields.time_ns, 1'700'000'000'000'000'000u);
  EXPECT_EQ(fields.payload_size, 5u);
  EXPECT_EQ(fields.checksum, 0xae2e'43b5u);
  EXPECT_EQ(as_text(std::span(at + 0x60, 5)), "hello");
  const std::uint32_t size = trailer_size(at + 0x40, fields);
  ASSERT_EQ(size, 12u);
  EXPECT_TRUE(checksum_matches(at + 0x40, fields, size, Position(0x40040), segment.checksum));
  EXPECT_EQ(as_text(find_entry(std::span(at + 0x68, size), TrailerType::key)), "k1");

  ASSERT_EQ(read_header(at + 0x80, room - 0x40, fields), HeaderCheck::skip);
  EXPECT_EQ(fields.claim, ClaimWord::make(ProducerId(6), 2, RecordKind::data, false, RecordState::aborted));
  RecordFields aborted;
  aborted.claim = fields.claim;
  aborted.sequence = Sequence(4);
  EXPECT_EQ(record_checksum(content_checksum(nullptr, 0, nullptr, 0), aborted, Position(0x40080), segment.checksum),
            0x30e6'd05du);
  EXPECT_EQ(read_header(at + 0x100, room - 0xc0, fields), HeaderCheck::free);
}

// The tables say "| offset | size | field |"; a row is looked up by its text, within its section.
void expect_row(const std::string& section, const std::string& field, std::size_t offset) {
  const std::string page = read_page();
  const std::size_t start =
      page.find("\n## " + section) != std::string::npos ? page.find("\n## " + section) : page.find("\n### " + section);
  ASSERT_NE(start, std::string::npos) << section;
  const std::string rows = page.substr(start, page.find("\n##", start + 4) - start);
  std::istringstream lines(rows);
  std::string line;
  while (std::getline(lines, line)) {
    const bool row = line.size() > 2 && line[2] >= '0' && line[2] <= '9';
    if (!row || line.find("| " + field + " |") == std::string::npos) continue;
    EXPECT_EQ(std::stoull(line.substr(2)), offset) << section << ": " << line;
    return;
  }
  FAIL() << "no row '" << field << "' in section " << section;
}

TEST(FormatPage, OffsetsOfTheRecordAndTheSegmentHeaderAreTheCodes) {
  expect_row("Record", "sequence", offsetof(RecordHeader, sequence));
  expect_row("Record", "time", offsetof(RecordHeader, time_ns));
  expect_row("Record", "payload size", offsetof(RecordHeader, payload_size));
  expect_row("Record", "checksum", offsetof(RecordHeader, checksum));
  expect_row("Record", "payload", kRecordHeaderSize);
  expect_row("Segment header", "version", offsetof(SegmentHeader, version));
  expect_row("Segment header", "topic", offsetof(SegmentHeader, topic_id));
  expect_row("Segment header", "partition", offsetof(SegmentHeader, partition));
  expect_row("Segment header", "segment", offsetof(SegmentHeader, segment_number));
  expect_row("Segment header", "incarnation", offsetof(SegmentHeader, incarnation));
  expect_row("Segment header", "durable", offsetof(SegmentHeader, durable_position));
  expect_row("Segment header", "flags", offsetof(SegmentHeader, flags));
  expect_row("Segment header", "checksum", offsetof(SegmentHeader, checksum));
}

TEST(FormatPage, OffsetsOfTheRegionsAreTheCodes) {
  expect_row("Shared memory", "handle", offsetof(RegionHeader, handle));
  expect_row("Shared memory", "incarnation", offsetof(RegionHeader, incarnation));
  expect_row("Shared memory", "size", offsetof(RegionHeader, size));
  expect_row("Shared memory", "session", offsetof(RegionHeader, session_id));
  expect_row("Control region", "segment size", offsetof(ControlRegion, segment_size));
  expect_row("Control region", "slots", offsetof(ControlRegion, slots));
  expect_row("Control region", "flags", offsetof(ControlRegion, flags));
  expect_row("Control region", "time mode", offsetof(ControlRegion, time_mode));
  expect_row("Control region", "message size max", offsetof(ControlRegion, message_size_max));
  expect_row("Control region", "claim deadline", offsetof(ControlRegion, claim_deadline_ns));
  expect_row("Control region", "start position", offsetof(ControlRegion, start_position));
  expect_row("Control region", "prepared", offsetof(ControlRegion, prepared));
  expect_row("Control region", "gate", offsetof(ControlRegion, gate));
  expect_row("Control region", "fence count", offsetof(ControlRegion, fence_count));
  expect_row("Control region", "durable", offsetof(ControlRegion, durable));
  expect_row("Control region", "durable count", offsetof(ControlRegion, durable_count));
  expect_row("Control region", "trimmed", offsetof(ControlRegion, trimmed));
  expect_row("Control region", "slot table", offsetof(ControlRegion, slot_table));
  expect_row("Control region", "fences", offsetof(ControlRegion, fences));
  expect_row("Log region", "tail", offsetof(LogRegionHeader, tail));
  expect_row("Bell region", "count", offsetof(BellRegion, count));
  expect_row("Bell region", "durable waiters", offsetof(BellRegion, durable_waiters));
  expect_row("Session region", "revoked", offsetof(SessionRegion, revoked));
  expect_row("Session region", "pins", offsetof(SessionRegion, pins));
  expect_row("Session region", "cursors", offsetof(SessionRegion, cursors));
}

}  // namespace
}  // namespace sluice::layout
