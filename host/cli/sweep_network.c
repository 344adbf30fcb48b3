/* The networks of trials. Their preprocessing depends on the rows and on --normalize and --impute, not on the network, so
 * it is fitted to all rows once for each such pair; a trial takes the names from a few rows and the values from there. */
#include <stdlib.h>

#include "cli/sweep_run.h"

static const char *const command = sweep_command;

/* Fitted networks without hidden layers. */
struct fitted {
  descent_normalize normalize;
  descent_impute impute;
  descent_network *network;
};
enum { PAIRS_MOST = 16 };

struct sweep_preprocessing {
  struct fitted pairs[PAIRS_MOST];
  int n;
  descent_dataset *sample; /* of the training rows; NULL: they are few */
};

static struct training training_of(const struct sweep *sweep, const struct sweep_trial *trial) {
  struct training own = sweep->shared;
  own.values = trial->train;
  return own;
}

static void renew(descent_network **network) {
  descent_network_free(*network);
  *network = NULL;
}

int sweep_network_create(const struct sweep *sweep, struct sweep_trial *t) {
  const struct training own = training_of(sweep, t);
  renew(&t->network);
  return training_network_create(&own, t->train.training.train.seed, &t->network);
}

/* A view of about a thousand rows; none where they are not worth it. */
static void take_sample(const struct sweep *sweep, struct sweep_preprocessing *p) {
  enum { ROWS = 1000, FEW = 10000 };
  const descent_dataset *rows = sweep->shared.rows.training;
  const double n = (double)descent_dataset_rows(rows);
  descent_dataset *others = NULL;
  if (n > FEW) (void)descent_dataset_split(rows, ROWS / n, 0, &others, &p->sample);
  descent_dataset_free(others);
}

static struct sweep_preprocessing *open_preprocessing(struct sweep *sweep) {
  if (!sweep->preprocessing) {
    sweep->preprocessing = calloc(1, sizeof *sweep->preprocessing);
    if (sweep->preprocessing) take_sample(sweep, sweep->preprocessing);
  }
  return sweep->preprocessing;
}

/* Fits the preprocessing of the trial for a network without hidden layers. */
static int fit(const struct sweep *sweep, const struct sweep_trial *t, struct fitted *pair) {
  struct training own = training_of(sweep, t);
  *pair = (struct fitted){.normalize = own.values.normalize, .impute = own.values.impute};
  own.values.network.hidden = "none";
  own.values.weights = NULL;
  return training_network(&own, &sweep->shared.rows, 0, &pair->network);
}

static int find(struct sweep *sweep, const struct sweep_trial *t, const descent_network **fitted) {
  struct sweep_preprocessing *p = open_preprocessing(sweep);
  const struct train_values *first = &sweep->shared.values;
  if (!p) return fail(command, EXIT_RUN, "out of memory");
  *fitted = sweep->shared.network;
  if (t->train.normalize == first->normalize && t->train.impute == first->impute) return EXIT_DONE;
  int i = 0;
  while (i < p->n && (p->pairs[i].normalize != t->train.normalize || p->pairs[i].impute != t->train.impute)) i++;
  if (i == p->n) {
    const int code = fit(sweep, t, &p->pairs[i]);
    if (code != EXIT_DONE) {
      renew(&p->pairs[i].network);
      return code;
    }
    p->n++;
  }
  *fitted = p->pairs[i].network;
  return EXIT_DONE;
}

/* False where the sample does not do: a column can have no value in it. */
static bool copy(const struct sweep *sweep, const descent_network *from, descent_network *to) {
  const descent_dataset *sample = sweep->preprocessing->sample;
  descent_preprocessing values = descent_preprocessing_default();
  return sample &&
         descent_network_fit_preprocessing(to, sample, DESCENT_NORMALIZE_NONE, DESCENT_IMPUTE_MEAN, false) ==
             DESCENT_OK &&
         descent_network_get_preprocessing(from, &values) == DESCENT_OK &&
         descent_network_set_preprocessing(to, &values) == DESCENT_OK;
}

int sweep_network_prepare(struct sweep *sweep, struct sweep_trial *t) {
  const descent_network *fitted = NULL;
  int code = find(sweep, t, &fitted);
  if (code == EXIT_DONE) code = sweep_network_create(sweep, t);
  if (code != EXIT_DONE || copy(sweep, fitted, t->network)) return code;
  const struct training own = training_of(sweep, t);
  return training_network_fit(&own, &sweep->shared.rows, t->network);
}

void sweep_network_clear(struct sweep *sweep) {
  struct sweep_preprocessing *p = sweep->preprocessing;
  for (int i = 0; p && i < p->n; i++) descent_network_free(p->pairs[i].network);
  if (p) descent_dataset_free(p->sample);
  free(p);
  sweep->preprocessing = NULL;
}
