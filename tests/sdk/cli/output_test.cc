#include "sdk/cli/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>

#include <gtest/gtest.h>

namespace sluice::cli {
namespace {

TEST(Writer, writes_every_byte_in_order_at_the_latest_when_it_ends) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  std::string expected;
  std::string got;
  std::thread reader([&] {
    char piece[4096];
    for (ssize_t n; (n = read(ends[0], piece, sizeof piece)) > 0;) got.append(piece, static_cast<std::size_t>(n));
  });
  {
    Writer writer(ends[1]);
    for (int i = 0; i < 100000; ++i) {
      const std::string line = std::to_string(i) + std::string("\0\xff", 2);
      expected += line;
      writer.write(line);
    }
  }
  close(ends[1]);
  reader.join();
  EXPECT_EQ(got, expected);
  close(ends[0]);
}

TEST(Writer, a_reader_that_is_gone_breaks_it_without_a_signal_or_an_endless_loop) {
  std::signal(SIGPIPE, SIG_IGN);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  close(ends[0]);
  Writer writer(ends[1]);
  writer.write("x");
  EXPECT_FALSE(writer.broken());
  writer.flush();
  EXPECT_TRUE(writer.broken());
  EXPECT_EQ(writer.broken_errno(), EPIPE);
  writer.write("y");
  writer.flush();
  close(ends[1]);
}

TEST(Table, columns_are_as_wide_as_their_widest_cell_and_lines_have_no_trailing_blanks) {
  Table table({"NAME", "N", ""}, {false, true});
  table.add({"a", "1", ""});
  table.add({"longer", "1000", "x"});
  EXPECT_EQ(table.text(), "NAME       N\na          1\nlonger  1000  x\n");
}

TEST(Human, numbers_are_short) {
  EXPECT_EQ(human_count(0), "0");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(1000), "1,000");
  EXPECT_EQ(human_count(1234567), "1,234,567");
  EXPECT_EQ(human_size(1023), "1023 B");
  EXPECT_EQ(human_size(4u << 20), "4.0 MiB");
  EXPECT_EQ(human_size(UINT64_MAX), "16384 PiB");
  EXPECT_EQ(human_duration(5), "5 ns");
  EXPECT_EQ(human_duration(1'500'000), "1.5 ms");
  EXPECT_EQ(human_duration(90'000'000'000), "90.0 s");
  EXPECT_EQ(human_duration(86'400'000'000'000), "24.0 h");
}

TEST(Printable, escape_sequences_of_others_do_not_reach_the_terminal) {
  EXPECT_EQ(printable("a\x1b[31mb\n\x7f"), "a\\x1b[31mb\\x0a\\x7f");
  EXPECT_EQ(printable("\xc3\xa4"), "\xc3\xa4");
}

TEST(Colours, are_off_for_pipes_and_with_no_color) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  EXPECT_FALSE(colours_on(ends[1]));
  EXPECT_EQ(coloured(ends[1], Colour::red, "x"), "x");
  close(ends[0]);
  close(ends[1]);
  // A terminal: on, but not if the user says so.
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(terminal, 0);
  unsetenv("NO_COLOR");
  setenv("TERM", "xterm", 1);
  EXPECT_TRUE(colours_on(terminal));
  EXPECT_NE(coloured(terminal, Colour::red, "x"), "x");
  setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(colours_on(terminal));
  unsetenv("NO_COLOR");
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(colours_on(terminal));
  close(terminal);
}

}  // namespace
}  // namespace sluice::cli
