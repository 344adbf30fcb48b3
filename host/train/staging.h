/* Float32 copies of a caller's arrays that are not dense float32: of a trainer's or a predictor's most rows, allocated
 * when they are first needed. */
#ifndef DESCENT_TRAIN_STAGING_H
#define DESCENT_TRAIN_STAGING_H

struct staging {
  float *X, *y, *weights, *outputs, *dOutputs, *dX; /* (most rows, columns); NULL: not needed yet */
};

void staging_free(struct staging *staging);

#endif
