/* What was inferred from data and options, said once before the training begins. */
#ifndef DESCENT_CLI_SUMMARY_H
#define DESCENT_CLI_SUMMARY_H

#include <descent/descent.h>
#include <stdio.h>

struct summary {
  const char *data_path;
  const char *target; /* as the user named it, or NULL */
  descent_impute impute;
  const char *missing; /* --missing as given, or NULL */
  bool task_inferred;
  bool trials;                       /* of a sweep: no lines on a network and options, which differ between them */
  const char *how;                   /* a line on networks that are trained together, or NULL */
  const descent_dataset *data;       /* the whole file */
  const descent_dataset *training;   /* the rows to train on */
  const descent_dataset *validation; /* or NULL */
  const char *validation_path;       /* or NULL: held out of the data */
  const descent_network *network;
  const descent_device *device;
  const descent_communicator *ranks; /* or NULL */
  const descent_train_options *train;
};
void summary_print(FILE *stream, const struct summary *summary);

/* "2 on 1 host (node5: 2), 4 micro-batches" after the title: who computes a step together. */
void summary_ranks(FILE *stream, const char *title, const descent_communicator *ranks,
                   const descent_train_options *train);

/* "30-64-32-1 relu" and so on: the widths and the activations of a network, cut with "..." where it is very deep. */
void summary_shape(const descent_network *network, char *text, size_t size);

#endif
