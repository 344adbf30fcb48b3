/* A compiled plan. Each part is written only by the file named beside it; all others read it. */
#ifndef DESCENT_KERNELS_COMPILED_H
#define DESCENT_KERNELS_COMPILED_H

#include "beside.h"
#include "fusion.h"
#include "layout.h"
#include "ranks.h"
#include "run.h"
#include "source.h"
#include "transfer.h"
#include "work.h"

struct backend_program {
  const struct backend_device *device;
  const struct plan *plan;
  struct device_memory memory;      /* device_memory.c */
  struct device_buffers buffers;    /* layout.c */
  struct product_choices choices;   /* choose.c */
  struct fusion fusion;             /* fusion.c */
  struct work_memory work;          /* work.c */
  struct rank_sums ranks;           /* ranks.c */
  struct beside beside;             /* beside.c */
  struct source_set sources;        /* source.c */
  struct step_queue queue;          /* run.c */
  struct step_graph graphs[GRAPHS]; /* run.c */
  struct transfer transfer;         /* transfer.c */
  char arithmetic[224];             /* compile.c */
};

#endif
