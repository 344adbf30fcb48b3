#include "cli/out_of_fold.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/output.h"
#include "cli/prediction.h"
#include "cli/results.h"
#include "report/text.h"

static const char *const command = training_command;

/* A view does not tell which rows of the data it has. So the rows are numbered in a dataset that is dealt into the same
 * folds: its inputs are the number of the row, in two parts that float32 holds exactly. */
struct numbers {
  descent_dataset *data;
  float *X; /* (rows, 2): the number / PART, and the rest */
  float *y; /* (rows) classes, or NULL */
};
enum { PART = 1 << 22 };

static void numbers_clear(struct numbers *n) {
  descent_dataset_free(n->data);
  free(n->X);
  free(n->y);
}

static descent_status number_rows(const descent_dataset *data, struct numbers *n) {
  const int64_t rows = descent_dataset_rows(data), classes = descent_dataset_classes(data);
  *n = (struct numbers){.X = calloc((size_t)rows, 2 * sizeof *n->X)};
  if (classes) n->y = calloc((size_t)rows, sizeof *n->y);
  if (!n->X || (classes && !n->y)) return DESCENT_ERROR_MEMORY;
  for (int64_t r = 0; r < rows; r++) {
    n->X[2 * r] = (float)(r / PART);
    n->X[2 * r + 1] = (float)(r % PART);
    if (classes && descent_dataset_target(data, r, &n->y[r]) != DESCENT_OK) return DESCENT_ERROR_INTERNAL;
  }
  return descent_dataset_create(n->X, n->y, NULL, rows, 2, 1, classes ? descent_dataset_task(data) : DESCENT_TASK_AUTO,
                                classes, &n->data);
}

/* What is predicted for the rows of the data. */
struct predicted {
  float *outputs; /* (rows, outputs) as the writer takes them */
  int64_t *fold;  /* (rows); -1 - fold: its network predicts nothing */
};

/* Puts the outputs of a fold, in the order of its view, in the places of their rows. `given` NULL: there are none. */
static descent_status place_rows(const struct members *m, const struct numbers *n, int64_t fold, const float *given,
                                 int64_t outputs, struct predicted *p) {
  const struct train_values *v = &m->training->values;
  descent_dataset *others = NULL, *part = NULL;
  descent_status status = descent_dataset_fold(n->data, m->count, fold, v->training.train.seed, &others, &part);
  for (int64_t i = 0; status == DESCENT_OK && i < descent_dataset_rows(part); i++) {
    float number[2];
    status = descent_dataset_row(part, i, number);
    const int64_t row = (int64_t)number[0] * PART + (int64_t)number[1];
    if (given) memcpy(p->outputs + row * outputs, given + i * outputs, (size_t)outputs * sizeof *given);
    p->fold[row] = given ? fold : -1 - fold;
  }
  descent_dataset_free(others);
  descent_dataset_free(part);
  return status;
}

static descent_status predict_fold(const struct members *m, const struct numbers *n, const descent_dataset *rows,
                                   const descent_network *network, int64_t fold, bool raw, struct predicted *p) {
  const descent_predict_options options = results_predict_options(m->training);
  const int64_t outputs = descent_network_outputs(network);
  float *values = calloc((size_t)descent_dataset_rows(rows), (size_t)outputs * sizeof *values);
  if (!values) return DESCENT_ERROR_MEMORY;
  descent_status status =
      (raw ? descent_predict_raw_with : descent_predict_with)(network, m->training->device, rows, &options, values);
  if (status == DESCENT_OK) status = place_rows(m, n, fold, values, outputs, p);
  free(values);
  return status;
}

/* One writer for each fold, since a target is scaled back by the network of its fold. */
static bool write_rows(FILE *stream, const struct prediction_writer *writers, const struct predicted *p, int64_t rows,
                       int64_t outputs) {
  fputs("fold,", stream);
  prediction_write_header(&writers[0]);
  for (int64_t r = 0; r < rows && !ferror(stream); r++) {
    fprintf(stream, "%" PRId64 ",", p->fold[r] < 0 ? -1 - p->fold[r] : p->fold[r]);
    if (p->fold[r] < 0)
      prediction_write_missing(&writers[0]);
    else
      prediction_write_row(&writers[p->fold[r]], p->outputs + r * outputs, NULL);
  }
  return !ferror(stream);
}

static int write_file(const char *path, struct prediction_writer *writers, int64_t count, const struct predicted *p,
                      int64_t rows, int64_t outputs) {
  struct output_file output;
  if (!output_open(&output, path)) return fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
  for (int64_t k = 0; k < count; k++) writers[k].stream = output.stream;
  const bool written = write_rows(output.stream, writers, p, rows, outputs);
  const int error = errno;
  if (written && output_commit(&output)) return EXIT_DONE;
  const int why = written ? errno : error;
  if (!written) output_abandon(&output);
  return fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(why));
}

/* The writers of all folds take the same kind of outputs: raw ones, if any does. */
static bool open_writers(struct prediction_writer *writers, descent_network *const *networks, int64_t count) {
  bool opened = true, far = false;
  for (int64_t k = 0; k < count && opened; k++) {
    opened = prediction_open(&writers[k], networks[k], PREDICTION_ALL, 0.5, false);
    far = far || writers[k].far;
  }
  for (int64_t k = 0; k < count; k++) {
    writers[k].far = far;
    writers[k].raw = writers[k].raw || far;
  }
  return opened;
}

/* The lines of the file are not those of the data then. */
static void note_dropped(const struct members *m) {
  const int64_t dropped = descent_dataset_dropped(m->training->data);
  const struct train_values *v = &m->training->values;
  if (dropped)
    text_print(stderr, "%s: note: %s has no lines for %" PRId64 " row%s of %s without a target\n", command,
               v->out_of_fold, dropped, dropped == 1 ? "" : "s", v->data_path);
}

int out_of_fold_write(const struct members *m, const struct training_rows *rows, descent_network *const *networks) {
  const descent_dataset *data = m->training->data;
  const int64_t n_rows = descent_dataset_rows(data), outputs = descent_network_outputs(networks[0]);
  struct prediction_writer *writers = calloc((size_t)m->count, sizeof *writers);
  struct numbers numbers = {0};
  struct predicted p = {.outputs = calloc((size_t)n_rows, (size_t)outputs * sizeof *p.outputs),
                        .fold = malloc((size_t)n_rows * sizeof *p.fold)};
  const bool fits = writers && p.outputs && p.fold && open_writers(writers, networks, m->count);
  descent_status status = fits ? number_rows(data, &numbers) : DESCENT_ERROR_MEMORY;
  for (int64_t k = 0; k < m->count && status == DESCENT_OK; k++)
    status = m->members[k].status == DESCENT_OK
                 ? predict_fold(m, &numbers, rows[k].fold, networks[k], k, writers[0].raw, &p)
                 : place_rows(m, &numbers, k, NULL, outputs, &p);
  const int code = status != DESCENT_OK
                       ? fail_status(command, status)
                       : write_file(m->training->values.out_of_fold, writers, m->count, &p, n_rows, outputs);
  if (code == EXIT_DONE) note_dropped(m);
  for (int64_t k = 0; writers && k < m->count; k++) prediction_close(&writers[k]);
  numbers_clear(&numbers);
  free(writers);
  free(p.outputs);
  free(p.fold);
  return code;
}
