// Answers that carry descriptors: each goes into a capability of its own. Runs on the control thread.
//
// Guarantee: where the connection holds too many descriptors already, nothing is given and the answer is a Failure.
#pragma once

#include "daemon/control/connection.h"
#include "daemon/session/bus_interface.h"
#include "sdk/protocol/control.capnp.h"
#include "shm/base/result.h"

namespace sluice::control {

void write_welcome(protocol::Welcome::Builder out, Connection& connection, session::Welcome welcome);
void write_producer_grant(protocol::OpenProducerResponse::Builder out, Connection& connection,
                          Result<session::ProducerGrant> answer);
void write_reader_grant(protocol::OpenReaderResponse::Builder out, Connection& connection,
                        Result<session::ReaderGrant> answer);
void write_partitions(protocol::PartitionsResponse::Builder out, Connection& connection,
                      Result<std::vector<session::PartitionGrant>> answer);
void write_locate(protocol::LocateResponse::Builder out, Connection& connection, Result<session::LocateAnswer> answer);

}  // namespace sluice::control
