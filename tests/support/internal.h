/* The internal headers of host/ for tests in C++. */
#ifndef DESCENT_TESTS_INTERNAL_H
#define DESCENT_TESTS_INTERNAL_H

#include <Random123/philox.h> /* has templates: outside extern "C" */

extern "C" {
#include "backend/backend.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/folder.h"
#include "core/file.h"
#include "core/memory.h"
#include "core/number.h"
#include "core/rng.h"
#include "core/status.h"
#include "core/terms.h"
#include "data/elements.h"
#include "data/format.h"
#include "data/table.h"
#include "model/network.h"
#include "plan/build.h"
#include "train/check.h"
#include "train/health.h"
#include "train/metrics.h"
#include "train/schedule.h"
#include "train/trainer.h"
#include "verify/bounds.h"
}

#endif
