// The order service: an order is in its database exactly if its message is delivered.
//
//   half ─▶ local transaction ─▶ commit. Killed anywhere between, the daemon asks whoever of the group lives, and the
//   database answers.
#pragma once

#include <string>

#include "database.h"

namespace checkout {

class Orders {
 public:
  static sluice::Result<Orders> open(sluice::Client& client, const std::string& path);

  // Steps: before-half, after-half, in-transaction, after-database, after-resolve.
  sluice::Status place(const std::string& order, const std::string& goods);

 private:
  Orders(Database database, sluice::TransactionalProducer producer)
      : database_(std::move(database)), producer_(std::move(producer)) {}

  Database database_;
  sluice::TransactionalProducer producer_;
};

}  // namespace checkout
