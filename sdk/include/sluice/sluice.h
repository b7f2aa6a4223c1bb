// Everything of the SDK.
#pragma once

#include "sluice/admin.h"
#include "sluice/client.h"
#include "sluice/consumer.h"
#include "sluice/group.h"
#include "sluice/message.h"
#include "sluice/producer.h"
#include "sluice/reader.h"
#include "sluice/transaction.h"
