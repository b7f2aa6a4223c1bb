#include "daemon/control/listen_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "tests/daemon/control/fake_bus.h"

namespace sluice::control {
namespace {

class Listen : public testing::Test {
 protected:
  test::TemporaryFolder folder_;
  const std::string path_ = folder_.file("sluice/s");  // its folder is made
};

TEST_F(Listen, TheSocketHasItsModeAndGroupAndGoesAway) {
  {
    const auto socket = ListenSocket::listen_at(path_, getegid());
    ASSERT_TRUE(socket) << socket.error().message();
    struct stat status {};
    ASSERT_EQ(lstat(path_.c_str(), &status), 0);
    EXPECT_TRUE(S_ISSOCK(status.st_mode));
    EXPECT_EQ(status.st_mode & 0777, 0660u);
    EXPECT_EQ(status.st_gid, getegid());
  }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(Listen, ASecondDaemonIsRefusedAndTheFirstUnharmed) {
  const auto first = ListenSocket::listen_at(path_, std::nullopt);
  ASSERT_TRUE(first);
  const auto second = ListenSocket::listen_at(path_, std::nullopt);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::in_use);
  EXPECT_NE(second.error().context().find(path_), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(Listen, AStaleSocketIsReplaced) {
  std::filesystem::create_directory(folder_.file("sluice"));
  const int stale = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path_.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(bind(stale, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(stale, 1), 0);
  close(stale);  // as kill -9 leaves it
  EXPECT_TRUE(ListenSocket::listen_at(path_, std::nullopt));
}

TEST_F(Listen, AFileThatIsNoSocketIsNotTouched) {
  std::filesystem::create_directory(folder_.file("sluice"));
  std::ofstream(path_) << "precious";
  EXPECT_EQ(ListenSocket::listen_at(path_, std::nullopt).error().code(), ErrorCode::invalid);
  std::string text;
  std::ifstream(path_) >> text;
  EXPECT_EQ(text, "precious");
}

TEST_F(Listen, APathTooLongIsRefusedByName) {
  const auto result = ListenSocket::listen_at(folder_.file(std::string(120, 'x')), std::nullopt);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::invalid);
  EXPECT_NE(result.error().context().find("107"), std::string::npos) << result.error().message();
}

TEST_F(Listen, AListeningDescriptorIsTakenOverAndItsFileStays) {
  const auto made = ListenSocket::listen_at(path_, std::nullopt);
  ASSERT_TRUE(made);
  {
    const auto adopted = ListenSocket::adopt(UniqueFd(fcntl(made->fd(), F_DUPFD_CLOEXEC, 0)));
    ASSERT_TRUE(adopted) << adopted.error().message();
  }
  EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(Listen, ADescriptorThatDoesNotListenIsRefused) {
  EXPECT_EQ(ListenSocket::adopt(UniqueFd(socket(AF_UNIX, SOCK_STREAM, 0))).error().code(), ErrorCode::invalid);
  EXPECT_FALSE(ListenSocket::adopt(UniqueFd(open("/dev/null", O_RDONLY))));
}

}  // namespace
}  // namespace sluice::control
