/* Options as tables. One row states an option's name, where its value goes, its range and what --help prints; argp
 * parses by it, --config reads by it, and the configuration kept in the model is written from it, so the three cannot
 * disagree. An option that sets a member of the library's structs has the member's name, with hyphens or underscores.
 */
#ifndef DESCENT_CLI_OPTIONS_H
#define DESCENT_CLI_OPTIONS_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <descent/descent.h>

#include "cli/messages.h"

enum option_kind {
  OPTION_END, /* the zeroed row that ends a table */
  OPTION_HEADING,
  OPTION_FLAG,    /* bool */
  OPTION_INTEGER, /* int64_t */
  OPTION_REAL,    /* double */
  OPTION_TEXT,    /* const char *, borrowed from the arguments */
  OPTION_TERM     /* an enum of the public header */
};

/* One of the public header's enums (DESCENT_TERM_MAP), read and named. */
struct option_term {
  descent_status (*parse)(const char *text, void *value);
  const char *(*name)(const void *value);
};
#define DECLARE_OPTION_TERM(type, PREFIX, MAP) extern const struct option_term option_term_##type;
DESCENT_TERM_MAP(DECLARE_OPTION_TERM)
#undef DECLARE_OPTION_TERM

enum option_mark {
  OPTION_OPEN_LOW = 1,   /* `low` itself is not allowed */
  OPTION_OPEN_HIGH = 2,  /* `high` itself is not allowed */
  OPTION_UNRECORDED = 4, /* does not affect the model: not part of the recorded configuration */
  OPTION_RECORDED_UNLESS_0 =
      8, /* a whole number whose 0 means the training of before there was the option: models without it
                                   keep their bytes */
};

struct setting {
  enum option_kind kind;
  const char *name;  /* long name without dashes; of a heading, its text */
  const char *value; /* placeholder in --help, NULL for a flag; a FILE or a DIR must not be empty */
  size_t offset;     /* of the value in the table's struct */
  const char *help;
  unsigned marks;
  double low, high; /* of a number */
  const struct option_term *term;
  char letter; /* of a short option, or 0 */
};

/* Rows of a table; `at` is the value's offset, the last arguments of numbers are marks, low, high. */
#define ROW_HEADING(text) \
  { OPTION_HEADING, text, NULL, 0, NULL, 0, 0, 0, NULL, 0 }
#define ROW_FLAG(name, at, help, marks) \
  { OPTION_FLAG, name, NULL, at, help, marks, 0, 0, NULL, 0 }
#define ROW_INTEGER(name, value, at, help, ...) \
  { OPTION_INTEGER, name, value, at, help, __VA_ARGS__, NULL, 0 }
#define ROW_REAL(name, value, at, help, ...) \
  { OPTION_REAL, name, value, at, help, __VA_ARGS__, NULL, 0 }
#define ROW_TEXT(name, value, at, help, marks) \
  { OPTION_TEXT, name, value, at, help, marks, 0, 0, NULL, 0 }
#define ROW_TERM(name, value, at, help, marks, type) \
  { OPTION_TERM, name, value, at, help, marks, 0, 0, &option_term_##type, 0 }
/* The same with a short option too. */
#define ROW_SHORT_TEXT(letter, name, value, at, help, marks) \
  { OPTION_TEXT, name, value, at, help, marks, 0, 0, NULL, letter }
#define ROW_END \
  { OPTION_END, NULL, NULL, 0, NULL, 0, 0, 0, NULL, 0 }

/* A table and the struct that its values go into; what it holds beforehand are the defaults. */
struct setting_set {
  const struct setting *options;
  void *values;
};

struct command_syntax {
  const char *name;      /* "descent train" */
  const char *arguments; /* "MODEL DATA" */
  const char *about;     /* above the options; after a '\v', below them */
  int fewest, most;      /* positional arguments; most <= ARGUMENTS_MOST */
  const struct setting_set *sets;
  int n_sets;
};

enum { ARGUMENTS_MOST = 64 };
struct arguments {
  const char *values[ARGUMENTS_MOST];
  int count;
};

enum { OPTIONS_CONTINUE = -1 };

/* Parses argv into the sets' values and `arguments`. OPTIONS_CONTINUE, or the exit code to leave with: EXIT_DONE after
 * --help, --usage or --version, EXIT_USAGE after one line about what is wrong. `config_path` and `n_config` say that
 * the first n_config arguments were made from that file (NULL, 0: none). */
int options_parse(const struct command_syntax *syntax, int argc, char **argv, const char *config_path, int n_config,
                  struct arguments *arguments);

/* A whole subcommand: parses argv and calls `run` with `values`. Returns the exit code. */
int options_run(const struct command_syntax *syntax, int argc, char **argv,
                int (*run)(void *values, const struct arguments *arguments), void *values);

/* The arguments that a JSON object in `path` stands for, followed by those of argv; free with options_config_free.
 * EXIT_DONE or the exit code after one line about what is wrong. */
struct option_config {
  char **argv;
  int argc, n_config;
};
int options_config_read(const struct command_syntax *syntax, const char *path, int argc, char **argv,
                        struct option_config *config);
void options_config_free(struct option_config *config);

/* Every recorded value that is set, by name; NULL when memory ran out. The caller deletes it. */
cJSON *options_record(const struct command_syntax *syntax);

/* Whether the option can have the value of `text`, which is not empty; if not, what it must be: "must be a number above
 * 0". */
enum { OPTION_EXPECTED = 1024 };
bool option_accepts(const struct setting *o, const char *text, char expected[static OPTION_EXPECTED]);

/* The option of this name, in any spelling that the command line accepts; NULL when there is none. */
const struct setting *option_named(const struct command_syntax *syntax, const char *name);

/* The struct member of an option's name of `length` characters, in any spelling: "lr" gives learning_rate. */
enum { OPTION_NAME_SIZE = 64 };
void option_member(const char *name, size_t length, char member[static OPTION_NAME_SIZE]);

/* Can `word`, of `length` characters, be `known` misspelt? At most two characters added, left out, replaced or swapped
 * with the next, and at least half of them right. `*edits`: how many. */
bool word_resembles(const char *word, size_t length, const char *known, int *edits);

/* Parses numbers in values with their own syntax: all of `text` is one number, not hexadecimal, finite. */
bool option_integer(const char *text, int64_t *value);
bool option_real(const char *text, double *value);

#endif
