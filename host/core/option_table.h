/* The training options that are one value: their names in texts, kinds and ranges. What checks, records and sets options
 * by name reads this table; lists (class_weights) and callbacks are not in it. */
#ifndef DESCENT_CORE_OPTION_TABLE_H
#define DESCENT_CORE_OPTION_TABLE_H

#include <descent/descent.h>

enum value_kind {
  VALUE_REAL,    /* double */
  VALUE_INTEGER, /* int64_t */
  VALUE_SEED,    /* uint64_t */
  VALUE_FLAG,    /* bool */
  VALUE_TERM,    /* an enum of the public header */
  VALUE_TEXT     /* const char *, borrowed */
};

struct train_option {
  const char *name; /* in texts: the member's, with its group's before a blank where that says too little */
  const char *path; /* of the member in descent_train_options */
  enum value_kind kind;
  size_t offset, size;
  bool recorded; /* a checkpoint records its value as it is; a name once recorded stays */
  /* Whether a value of a real, an integer or a term is in its range, and that range in words; NULL: any is. */
  bool (*holds)(double value);
  const char *range;
  descent_status (*parse)(const char *text, void *term); /* of a term */
};

extern const struct train_option train_options[];
extern const int n_train_options;

double train_option_real(const struct train_option *option, const descent_train_options *options);
int64_t train_option_integer(const struct train_option *option, const descent_train_options *options);
bool train_option_flag(const struct train_option *option, const descent_train_options *options);

/* ERROR_ARGUMENT, "<name> <value>: must be <range>", if the option's value is out of its range. */
descent_status train_option_check(const struct train_option *option, const descent_train_options *options);

#endif
