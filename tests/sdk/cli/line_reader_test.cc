#include "sdk/cli/line_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace sluice::cli {
namespace {

using Event = LineReader::Event;

struct Pipe {
  int ends[2];
  Pipe() { EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0); }
  ~Pipe() {
    close(ends[0]);
    close_writer();
  }
  void close_writer() {
    if (ends[1] >= 0) close(ends[1]);
    ends[1] = -1;
  }
  void write(std::string_view bytes) const {
    ASSERT_EQ(::write(ends[1], bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
};

// Everything that comes of an input: lines as "=text", lines that are too large as "!size".
std::vector<std::string> read_all(std::string_view input, std::size_t line_size_max, std::size_t piece) {
  Pipe pipe;
  std::thread writer([&] {
    for (std::size_t at = 0; at < input.size(); at += piece) pipe.write(input.substr(at, piece));
    pipe.close_writer();
  });
  LineReader reader(pipe.ends[0], line_size_max, -1, {});
  std::vector<std::string> out;
  for (;;) {
    const auto event = reader.next();
    EXPECT_TRUE(event);
    if (!event || *event == Event::end) break;
    out.push_back(*event == Event::line ? "=" + std::string(reader.text()) : "!" + std::to_string(reader.size()));
  }
  writer.join();
  return out;
}

using Lines = std::vector<std::string>;

TEST(LineReader, empty_lines_are_lines_and_a_missing_newline_at_the_end_is_fine) {
  EXPECT_EQ(read_all("", 10, 100), Lines{});
  EXPECT_EQ(read_all("\n", 10, 100), Lines{"="});
  EXPECT_EQ(read_all("a\n\nb\n", 10, 100), (Lines{"=a", "=", "=b"}));
  EXPECT_EQ(read_all("a\n\nb", 10, 100), (Lines{"=a", "=", "=b"}));
  EXPECT_EQ(read_all("\n\n\n", 10, 100), (Lines{"=", "=", "="}));
}

TEST(LineReader, bytes_come_through_as_they_are) {
  const std::string bytes("\0\x01\xff\r\t", 5);
  EXPECT_EQ(read_all(bytes + "\n" + bytes, 10, 100), (Lines{"=" + bytes, "=" + bytes}));
}

TEST(LineReader, a_line_at_the_limit_is_read_and_one_above_is_counted_and_the_next_is_read) {
  const std::string at(10, 'a');
  const std::string above(11, 'b');
  EXPECT_EQ(read_all(at + "\n" + above + "\nc\n" + above, 10, 100), (Lines{"=" + at, "!11", "=c", "!11"}));
}

TEST(LineReader, a_line_that_never_ends_does_not_eat_memory) {
  const std::string huge(8 << 20, 'x');
  EXPECT_EQ(read_all(huge + "\nafter\n", 1000, 65536), (Lines{"!" + std::to_string(huge.size()), "=after"}));
  EXPECT_EQ(read_all(huge, 1000, 65536), (Lines{"!" + std::to_string(huge.size())}));
}

TEST(LineReader, lines_larger_than_a_read_are_put_together) {
  const std::string large(5 << 20, 'y');
  EXPECT_EQ(read_all("a\n" + large + "\nb", 6 << 20, 65536), (Lines{"=a", "=" + large, "=b"}));
}

TEST(LineReader, however_the_input_is_cut_the_lines_are_the_same) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    std::mt19937_64 random(seed);
    std::string input;
    Lines expected;
    for (int i = 0; i < 50; ++i) {
      const std::string line(random() % 40, static_cast<char>('a' + random() % 26));
      input += line + "\n";
      expected.push_back(line.size() > 30 ? "!" + std::to_string(line.size()) : "=" + line);
    }
    EXPECT_EQ(read_all(input, 30, 1 + random() % 50), expected) << "seed " << seed;
  }
}

TEST(LineReader, the_stop_descriptor_ends_the_waiting_and_idle_is_told_before_it) {
  Pipe input;
  Pipe stop;
  int idle = 0;
  LineReader reader(input.ends[0], 100, stop.ends[0], [&] {
    ++idle;
    stop.write("x");
  });
  input.write("one\npart");
  ASSERT_EQ(*reader.next(), Event::line);
  EXPECT_EQ(idle, 0) << "a line that is there needs no waiting";
  EXPECT_EQ(*reader.next(), Event::interrupted);
  EXPECT_EQ(idle, 1);
}

TEST(LineReader, a_closed_input_is_an_error_and_not_an_end) {
  LineReader reader(-1, 100, -1, {});
  Pipe pipe;
  LineReader directory(open("/", O_RDONLY | O_CLOEXEC), 100, -1, {});
  const auto event = directory.next();
  ASSERT_FALSE(event);
  EXPECT_EQ(event.error().system_errno(), EISDIR);
}

}  // namespace
}  // namespace sluice::cli
