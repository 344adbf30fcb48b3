/* The members of a network as programs of one device that run together on the same rows. A plain network is one member. */
#ifndef DESCENT_TRAIN_ENSEMBLE_H
#define DESCENT_TRAIN_ENSEMBLE_H

#include "backend/program.h"
#include "data/dataset.h"
#include "model/network.h"

struct ensemble {
  int64_t members;
  struct program *programs; /* (members), of equal plans; NULL: not created yet */
  struct program_job *jobs; /* (members) of a run */
};

/* As program_create_prediction for each member. `ensemble` is zeroed on failure. */
descent_status ensemble_create(const descent_network *network, descent_device *device,
                               const descent_predict_options *options, unsigned parts, int64_t block,
                               struct ensemble *ensemble);
void ensemble_clear(struct ensemble *ensemble);

/* As program_write_network and program_copy_state for each member. */
descent_status ensemble_write_network(struct ensemble *ensemble, const descent_network *network);
descent_status ensemble_copy_state(const struct ensemble *from, struct ensemble *to);

/* Binds the rows of a dataset to all members until ensemble_unbind; `constant`: a device may keep a copy of them, which
 * the members share, until the programs are cleared. */
descent_status ensemble_bind(struct ensemble *ensemble, const descent_dataset *dataset, bool constant);
descent_status ensemble_unbind(struct ensemble *ensemble);
/* As program_bind_rows for each member. */
descent_status ensemble_bind_rows(struct ensemble *ensemble, const float *X, int64_t rows);

int64_t ensemble_block_rows(const struct ensemble *ensemble, int64_t left);
/* Runs the predict range of all members; nothing is allocated. */
descent_status ensemble_predict(struct ensemble *ensemble, int64_t first, int64_t rows);

enum ensemble_buffer { ENSEMBLE_A, ENSEMBLE_P }; /* raw outputs; what predict returns */
/* Reads them of the last run: values (members, rows, outputs). */
descent_status ensemble_read(const struct ensemble *ensemble, enum ensemble_buffer buffer, int64_t rows, float *values);

#endif
