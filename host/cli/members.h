/* Many networks of one command, trained together: the members of an ensemble, or the networks of a cross-validation. */
#ifndef DESCENT_CLI_MEMBERS_H
#define DESCENT_CLI_MEMBERS_H

#include "cli/run.h"
#include "report/measures.h"

enum { MEMBERS_DRAWN = 8 }; /* in a report, as many as a chart has colors */

struct members {
  const struct training *training;
  const char *noun; /* "member", "fold" */
  int64_t count;
  struct run_group group;
  struct run *runs;        /* (count) */
  descent_member *members; /* (count), with the result of each */
  descent_status status;   /* of all, after members_fit */
  char error[1024];        /* its text; "" for none */
  double seconds;          /* that the training took */
};

/* Room for `count` networks, each with the training's options and separate places for what it writes. */
int members_open(struct members *m, const struct training *training, const char *noun, int64_t count);
void members_close(struct members *m);

/* Network k of the call, which is borrowed with its rows. Its options, in m->runs[k].values, are complete. */
int members_set(struct members *m, int64_t k, descent_network *network, const struct training_rows *rows);

/* "8 networks, 32,776 parameters, up to 2.1 MB to train" */
void members_describe(const struct members *m, char text[static 256]);

/* Trains all of them, with one line of progress. */
void members_fit(struct members *m);

/* Says which have failed while others have not, and why; what becomes of them is in `fate`: "left out". */
void members_report_failures(const struct members *m, const char *fate);
/* "\ntrained 8 networks, 20 to 35 epochs (1,200 steps in all) in 3.2s, .." */
void members_print_end(const struct members *m);
/* How to continue a training that was stopped or whose device failed; the exit code of failures to write, else `code`. */
int members_end(struct members *m, int code);

int ensemble_train(struct training *training);
int folds_train(struct training *training);

#endif
