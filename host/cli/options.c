/* Parsing by table, on top of argp. argp's own messages take two lines and leave the program, so it is kept silent and
 * every error is told here, once, on one line. */
#include "cli/options.h"

#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

#define DEFINE_OPTION_TERM(type, PREFIX, MAP)                                                                         \
  static descent_status parse_##type(const char *text, void *value) { return descent_##type##_parse(text, value); }   \
  static const char *name_##type(const void *value) { return descent_##type##_name(*(const descent_##type *)value); } \
  const struct option_term option_term_##type = {parse_##type, name_##type};
DESCENT_TERM_MAP(DEFINE_OPTION_TERM)

enum { KEY_USAGE = 0x100, KEY_FIRST };

struct parsing {
  const struct command_syntax *syntax;
  struct argp argp;
  struct argp_option *table; /* argp's view of the sets, ends with a zeroed row */
  int n_options;
  struct arguments *arguments;
  const char *config_path;
  int n_config;
  int exit_code;
};

bool option_integer(const char *text, int64_t *value) {
  size_t sign = *text == '-' || *text == '+';
  if (!isdigit((unsigned char)text[sign])) return false;
  char *end;
  errno = 0;
  intmax_t parsed = strtoimax(text, &end, 10);
  if (errno || *end) return false;
  *value = parsed;
  return true;
}

bool option_real(const char *text, double *value) {
  if (!*text || text[strspn(text, "0123456789+-.eE")]) return false;
  char *end;
  double parsed = strtod(text, &end);
  if (*end || !isfinite(parsed)) return false;
  *value = parsed;
  return true;
}

/* The option behind an argp key, and where its value lies. */
static const struct setting *option_of_key(const struct command_syntax *syntax, int key, void **value) {
  int row = KEY_FIRST;
  for (int s = 0; s < syntax->n_sets; s++)
    for (const struct setting *o = syntax->sets[s].options; o->kind != OPTION_END; o++, row++)
      if (key == (o->letter ? o->letter : row)) {
        *value = (char *)syntax->sets[s].values + o->offset;
        return o;
      }
  return NULL;
}

static void describe_default(const struct setting *o, const void *value, char *text, size_t size) {
  *text = '\0';
  const char *name = NULL;
  if (o->kind == OPTION_INTEGER)
    snprintf(text, size, " (default %" PRId64 ")", *(const int64_t *)value);
  else if (o->kind == OPTION_REAL)
    snprintf(text, size, " (default %.6g)", *(const double *)value);
  else if (o->kind == OPTION_TEXT)
    name = *(const char *const *)value;
  else if (o->kind == OPTION_TERM)
    name = o->term->name(value);
  if (name) snprintf(text, size, " (default %s)", name);
}

static void describe_range(const struct setting *o, char *text, size_t size) {
  const char *what = o->kind == OPTION_INTEGER ? "a whole number" : "a number";
  const char *low = o->marks & OPTION_OPEN_LOW ? "above" : "of at least";
  if (o->high == HUGE_VAL)
    snprintf(text, size, "%s %s %.17g", what, low, o->low);
  else
    snprintf(text, size, "%s %s %.17g and %s %.17g", what, low, o->low,
             o->marks & OPTION_OPEN_HIGH ? "below" : "at most", o->high);
}

static bool in_range(const struct setting *o, double x) {
  return (o->marks & OPTION_OPEN_LOW ? x > o->low : x >= o->low) &&
         (o->marks & OPTION_OPEN_HIGH ? x < o->high : x <= o->high);
}

static error_t bad_value(struct parsing *parsing, const struct argp_state *state, const struct setting *o,
                         const char *text, const char *expected) {
  bool from_file = state->next - 1 <= parsing->n_config;
  parsing->exit_code = fail(parsing->syntax->name, EXIT_USAGE, "%s%s--%s '%s': %s",
                            from_file ? parsing->config_path : "", from_file ? ": " : "", o->name, text, expected);
  return EINVAL;
}

static error_t set_value(struct parsing *parsing, const struct argp_state *state, const struct setting *o, void *value,
                         const char *text) {
  char expected[160] = "must be ";
  if (o->kind == OPTION_FLAG) {
    *(bool *)value = true;
  } else if (o->kind == OPTION_TEXT) {
    const bool file = strncmp(o->value, "FILE", 4) == 0, folder = strcmp(o->value, "DIR") == 0;
    if (!*text && (file || folder))
      return bad_value(parsing, state, o, text, file ? "must name a file" : "must name a folder");
    *(const char **)value = text;
  } else if (o->kind == OPTION_TERM) {
    if (o->term->parse(text, value) != DESCENT_OK) return bad_value(parsing, state, o, text, descent_last_error());
  } else {
    int64_t whole = 0;
    double real = 0;
    bool valid = o->kind == OPTION_INTEGER ? option_integer(text, &whole) : option_real(text, &real);
    if (!valid || !in_range(o, o->kind == OPTION_INTEGER ? (double)whole : real)) {
      describe_range(o, expected + strlen(expected), sizeof expected - strlen(expected));
      return bad_value(parsing, state, o, text, expected);
    }
    if (o->kind == OPTION_INTEGER)
      *(int64_t *)value = whole;
    else
      *(double *)value = real;
  }
  return 0;
}

/* "--lr or --l2": the options that begin with the word, or else those that resemble it most, or the one that the
 * library calls so; "" when there is none. */
static void list_meant(const struct parsing *parsing, const char *word, size_t length, bool begun, char *out,
                       size_t size) {
  size_t used = 0;
  int fewest = INT_MAX;
  *out = '\0';
  for (const struct argp_option *o = parsing->table; o->name || o->doc; o++) {
    int edits = 0;
    if (!o->name) continue;
    if (begun ? strncmp(o->name, word, length) != 0 : !word_resembles(word, length, o->name, &edits)) continue;
    if (edits > fewest) continue;
    if (edits < fewest) used = 0;
    fewest = edits;
    const int n = snprintf(out + used, size - used, "%s--%s", used ? " or " : "", o->name);
    used += (size_t)n < size - used ? (size_t)n : 0;
    out[used] = '\0'; /* no half of a name */
  }
  if (used) return;
  char member[40];
  option_library_word(word, length, member, sizeof member);
  option_words(member, out, size);
  const struct argp_option *o = parsing->table;
  while ((o->name || o->doc) && !(o->name && strncmp(out, "--", 2) == 0 && strcmp(out + 2, o->name) == 0)) o++;
  if (!o->name) *out = '\0'; /* of another command */
}

/* Says what is wrong with an argument that getopt refused: getopt itself only says that it did. */
static void report_refused(struct parsing *parsing, const struct argp_state *state) {
  const char *next = state->next < state->argc ? state->argv[state->next] : "";
  /* getopt moves on after a long option, but stays at a cluster of short ones until it is used up. */
  const char *refused = next[0] == '-' && next[1] && next[1] != '-' ? next : state->argv[state->next - 1];
  const char *command = parsing->syntax->name;
  int matches = 0;
  char meant[400] = "";
  const struct argp_option *match = NULL;
  if (strncmp(refused, "--", 2) == 0) {
    size_t length = strcspn(refused + 2, "=");
    for (const struct argp_option *o = parsing->table; o->name || o->doc; o++) {
      if (!o->name || strncmp(o->name, refused + 2, length) != 0) continue;
      match = o;
      if (!o->name[length]) {
        matches = 1;
        break;
      }
      matches++;
    }
    if (matches != 1) list_meant(parsing, refused + 2, length, matches > 1, meant, sizeof meant);
  } else {
    for (const struct argp_option *o = parsing->table; o->name || o->doc; o++)
      if (o->name && o->arg && o->key == refused[1] && !refused[2]) match = o, matches = 1;
  }
  if (matches > 1)
    parsing->exit_code =
        fail(command, EXIT_USAGE, "option '%s' is ambiguous: %s (see %s --help)", refused, meant, command);
  else if (matches == 0 && *meant)
    parsing->exit_code =
        fail(command, EXIT_USAGE, "unknown option '%s': did you mean %s? (see %s --help)", refused, meant, command);
  else if (matches == 0)
    parsing->exit_code = fail(command, EXIT_USAGE, "unknown option '%s' (see %s --help)", refused, command);
  else if (match->arg)
    parsing->exit_code =
        fail(command, EXIT_USAGE, "option '--%s' needs a value, %s (see %s --help)", match->name, match->arg, command);
  else
    parsing->exit_code =
        fail(command, EXIT_USAGE, "option '--%s' takes no value (see %s --help)", match->name, command);
}

static error_t parse_key(int key, char *text, struct argp_state *state) {
  struct parsing *parsing = state->input;
  const struct command_syntax *syntax = parsing->syntax;
  char *name = (char *)(uintptr_t)syntax->name; /* argp_help does not write to it */
  switch (key) {
    case '?':
    case KEY_USAGE:
      argp_help(&parsing->argp, stdout,
                key == '?' ? ARGP_HELP_STD_HELP & ~(unsigned)ARGP_HELP_EXIT_OK : ARGP_HELP_USAGE, name);
      parsing->exit_code = EXIT_DONE;
      return ECANCELED;
    case 'V':
      printf("descent %s\n", descent_version());
      parsing->exit_code = EXIT_DONE;
      return ECANCELED;
    case ARGP_KEY_ARG:
      if (parsing->arguments->count == syntax->most) {
        parsing->exit_code =
            fail(syntax->name, EXIT_USAGE, "one argument too many: '%s' (see %s --help)", text, syntax->name);
        return EINVAL;
      }
      parsing->arguments->values[parsing->arguments->count++] = text;
      return 0;
    case ARGP_KEY_END:
      if (parsing->arguments->count >= syntax->fewest) return 0;
      parsing->exit_code = fail(syntax->name, EXIT_USAGE, "needs %s (see %s --help)", syntax->arguments, syntax->name);
      return EINVAL;
    case ARGP_KEY_ERROR:
      if (parsing->exit_code == OPTIONS_GO_ON) report_refused(parsing, state);
      return 0;
    default: {
      void *value;
      const struct setting *o = option_of_key(syntax, key, &value);
      return o ? set_value(parsing, state, o, value, text) : ARGP_ERR_UNKNOWN;
    }
  }
}

static void table_free(struct argp_option *table, int count) {
  for (int i = 0; table && i < count; i++) free((char *)(uintptr_t)table[i].doc);
  free(table);
}

/* argp's rows for the sets and for the three options that every command has. Texts are allocated: NULL when memory ran
 * out. */
static struct argp_option *table_create(const struct command_syntax *syntax, int *count) {
  static const struct argp_option last[] = {
      {NULL, 0, NULL, 0, "Help:", -1},
      {"help", '?', NULL, 0, "Give this help list", 0},
      {"usage", KEY_USAGE, NULL, 0, "Give a short usage message", 0},
      {"version", 'V', NULL, 0, "Print the version and what was built in", 0},
      {0},
  };
  const int n_last = sizeof last / sizeof *last;
  int n = 0;
  for (int s = 0; s < syntax->n_sets; s++)
    for (const struct setting *o = syntax->sets[s].options; o->kind != OPTION_END; o++) n++;
  struct argp_option *table = calloc((size_t)n + (size_t)n_last, sizeof *table);
  if (!table) return NULL;
  int row = 0, key = KEY_FIRST, group = 0;
  for (int s = 0; s < syntax->n_sets; s++)
    for (const struct setting *o = syntax->sets[s].options; o->kind != OPTION_END; o++, row++, key++) {
      char fallback[80], *doc = NULL;
      if (o->kind == OPTION_HEADING) {
        group++;
        table[row] = (struct argp_option){.doc = strdup(o->name), .group = group};
      } else {
        describe_default(o, (const char *)syntax->sets[s].values + o->offset, fallback, sizeof fallback);
        if (asprintf(&doc, "%s%s", o->help, fallback) < 0) doc = NULL;
        table[row] = (struct argp_option){
            .name = o->name, .key = o->letter ? o->letter : key, .arg = o->value, .doc = doc, .group = group};
      }
      if (table[row].doc) continue;
      table_free(table, row);
      return NULL;
    }
  memcpy(table + n, last, sizeof last);
  *count = n;
  return table;
}

int options_parse(const struct command_syntax *syntax, int argc, char **argv, const char *config_path, int n_config,
                  struct arguments *arguments) {
  struct parsing parsing = {.syntax = syntax,
                            .arguments = arguments,
                            .config_path = config_path,
                            .n_config = n_config,
                            .exit_code = OPTIONS_GO_ON};
  *arguments = (struct arguments){0};
  parsing.table = table_create(syntax, &parsing.n_options);
  if (!parsing.table) return fail(syntax->name, EXIT_RUN, "out of memory");
  parsing.argp =
      (struct argp){.options = parsing.table, .parser = parse_key, .args_doc = syntax->arguments, .doc = syntax->about};
  error_t error = argp_parse(&parsing.argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP | ARGP_NO_EXIT, NULL, &parsing);
  table_free(parsing.table, parsing.n_options);
  if (error == ENOMEM) return fail(syntax->name, EXIT_RUN, "out of memory");
  return parsing.exit_code;
}

static bool add_value(cJSON *record, const struct setting *o, const void *value) {
  if (o->kind == OPTION_FLAG) return cJSON_AddBoolToObject(record, o->name, *(const bool *)value) != NULL;
  if (o->kind == OPTION_REAL) return cJSON_AddNumberToObject(record, o->name, *(const double *)value) != NULL;
  if (o->kind == OPTION_TERM) return cJSON_AddStringToObject(record, o->name, o->term->name(value)) != NULL;
  if (o->kind == OPTION_TEXT) {
    const char *text = *(const char *const *)value;
    return !text || cJSON_AddStringToObject(record, o->name, text) != NULL;
  }
  enum { EXACT_DIGITS = 15 }; /* of a JSON number as cJSON writes it; longer integers are kept as text */
  char digits[24];
  int length = snprintf(digits, sizeof digits, "%" PRId64, *(const int64_t *)value);
  if (length > EXACT_DIGITS) return cJSON_AddStringToObject(record, o->name, digits) != NULL;
  return cJSON_AddNumberToObject(record, o->name, (double)*(const int64_t *)value) != NULL;
}

cJSON *options_record(const struct command_syntax *syntax) {
  cJSON *record = cJSON_CreateObject();
  for (int s = 0; record && s < syntax->n_sets; s++)
    for (const struct setting *o = syntax->sets[s].options; o->kind != OPTION_END; o++) {
      if (o->kind == OPTION_HEADING || o->marks & OPTION_UNRECORDED) continue;
      if (add_value(record, o, (const char *)syntax->sets[s].values + o->offset)) continue;
      cJSON_Delete(record);
      return NULL;
    }
  return record;
}
