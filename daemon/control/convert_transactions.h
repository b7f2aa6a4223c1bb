// Transactions between the wire and the bus's types. What is read is checked for form.
#pragma once

#include "daemon/session/transaction_interface.h"
#include "sdk/protocol/control.capnp.h"
#include "shm/base/result.h"

namespace sluice::control {

Result<session::Resolve> read_resolve(protocol::Resolve::Reader in);
Result<Verdict> read_verdict(std::uint8_t in);
Result<session::TransactionOrder> read_order(protocol::TransactionOrder in);

void write_check(protocol::CheckRequest::Builder out, const session::CheckRequest& check);
void write_transaction(protocol::TransactionInfo::Builder out, const session::TransactionInfo& info);

}  // namespace sluice::control
