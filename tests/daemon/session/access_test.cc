#include "daemon/session/access.h"

#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "shm/base/fd.h"

namespace sluice::session {
namespace {

constexpr Policy kPolicy{1000, 50};

Peer someone(uid_t uid, gid_t gid = 99, std::vector<gid_t> groups = {}) { return {uid, gid, 1, std::move(groups)}; }

TEST(Access, ThePeerOfASocketIsWhoTheKernelSays) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  UniqueFd a(pair[0]), b(pair[1]);
  const auto peer = peer_of(a.get());
  ASSERT_TRUE(peer) << peer.error().message();
  EXPECT_EQ(peer->uid, geteuid());
  EXPECT_EQ(peer->gid, getegid());
  EXPECT_EQ(peer->pid, getpid());
  EXPECT_FALSE(peer_of(0).has_value() && isatty(0));
}

TEST(Access, OwnerRootAndTheSocketsGroupMayConnect) {
  EXPECT_TRUE(kPolicy.may_connect(someone(1000)));
  EXPECT_TRUE(kPolicy.may_connect(someone(0)));
  EXPECT_TRUE(kPolicy.may_connect(someone(7, 50)));
  EXPECT_TRUE(kPolicy.may_connect(someone(7, 1, {2, 50})));
  const Status refused = kPolicy.may_connect(someone(7, 1, {2}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::permission);
  EXPECT_FALSE((Policy{1000, std::nullopt}.may_connect(someone(7, 50))));
}

TEST(Access, AnEmptyListAllowsWhoeverMayConnect) { EXPECT_TRUE(AccessList().allows(someone(7), kPolicy)); }

TEST(Access, AListAllowsItsUsersItsGroupsAndTheOperators) {
  const auto list = AccessList::resolve({"user:7", "group:60"}).value();
  EXPECT_TRUE(list.allows(someone(7), kPolicy));
  EXPECT_TRUE(list.allows(someone(8, 60), kPolicy));
  EXPECT_TRUE(list.allows(someone(8, 1, {60}), kPolicy));
  EXPECT_TRUE(list.allows(someone(0), kPolicy));
  EXPECT_TRUE(list.allows(someone(1000), kPolicy));
  EXPECT_FALSE(list.allows(someone(8, 1, {61}), kPolicy));
  const Status refused = list.check(someone(8), kPolicy, "publishing to", "orders");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().context().find("publishing to topic orders"), std::string::npos);
}

TEST(Access, NamesAreLookedUp) {
  const auto list = AccessList::resolve({"user:root"}).value();
  EXPECT_TRUE(list.allows(someone(0), Policy{1000, std::nullopt}));
  EXPECT_EQ(AccessList::resolve({"user:nobody-of-that-name"}).error().code(), ErrorCode::not_found);
  EXPECT_EQ(AccessList::resolve({"group:no-such-group-here"}).error().code(), ErrorCode::not_found);
  EXPECT_EQ(AccessList::resolve({"alice"}).error().code(), ErrorCode::invalid);
}

TEST(Access, AListWhoseNamesAreGoneOpensNothing) {
  std::vector<std::string> unknown;
  const auto list = AccessList::resolve_known({"user:nobody-of-that-name"}, unknown);
  EXPECT_EQ(unknown, std::vector<std::string>{"user:nobody-of-that-name"});
  EXPECT_FALSE(list.allows(someone(7), kPolicy));
  EXPECT_TRUE(list.allows(someone(1000), kPolicy));
}

}  // namespace
}  // namespace sluice::session
