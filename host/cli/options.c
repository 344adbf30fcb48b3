/* Parsing by table, on top of argp. argp's own messages take two lines and end the program, so it is kept silent and
 * every error is reported here, once, on one line. */
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

#define DEFINE_OPTION_TERM(type, PREFIX, MAP)                                                                         \
  static descent_status parse_##type(const char *text, void *value) { return descent_##type##_parse(text, value); }   \
  static const char *name_##type(const void *value) { return descent_##type##_name(*(const descent_##type *)value); } \
  const struct option_term option_term_##type = {parse_##type, name_##type};
DESCENT_TERM_MAP(DEFINE_OPTION_TERM)

enum { KEY_USAGE = 0x100, KEY_FIRST };

/* Other names of options: a short form that --help shows, and former names. A model records its options under the first
 * name that each had, so that models of all versions agree. */
static const struct {
  const char *alias, *name;
  bool shown, recorded;
} aliases[] = {
    {"lr", "learning-rate", true, true},
    {"warmup", "warmup-steps", false, true},
    {"class-weight", "class-weights", false, true},
    {"witness", "reference", false, false},
};
enum { ALIASES = sizeof aliases / sizeof *aliases };

static void replace(char *text, char from, char to) {
  for (; *text; text++)
    if (*text == from) *text = to;
}

/* A name as the tables have it. */
static void canonical_name(const char *given, size_t length, char name[static OPTION_NAME_SIZE]) {
  snprintf(name, OPTION_NAME_SIZE, "%.*s", (int)(length < OPTION_NAME_SIZE ? length : OPTION_NAME_SIZE), given);
  replace(name, '_', '-');
  for (int i = 0; i < ALIASES; i++)
    if (strcmp(aliases[i].alias, name) == 0) snprintf(name, OPTION_NAME_SIZE, "%s", aliases[i].name);
}

static const char *recorded_name(const char *name) {
  for (int i = 0; i < ALIASES; i++)
    if (aliases[i].recorded && strcmp(aliases[i].name, name) == 0) return aliases[i].alias;
  return name;
}

void option_member(const char *name, size_t length, char member[static OPTION_NAME_SIZE]) {
  canonical_name(name, length, member);
  replace(member, '-', '_');
}

const struct setting *option_named(const struct command_syntax *syntax, const char *given) {
  char name[OPTION_NAME_SIZE];
  canonical_name(given, strlen(given), name);
  for (int s = 0; s < syntax->n_sets; s++)
    for (const struct setting *o = syntax->sets[s].options; o->kind != OPTION_END; o++)
      if (o->kind != OPTION_HEADING && strcmp(o->name, name) == 0) return o;
  return NULL;
}

enum { WORD_LONGEST = 31, EDITS_MOST = 2 };

static int least(int a, int b) { return a < b ? a : b; }

/* Edits of a prefix into another, by the last of each: optimal string alignment. */
bool word_resembles(const char *word, size_t length, const char *known, int *edits) {
  const size_t n = strlen(known);
  int cost[WORD_LONGEST + 1][WORD_LONGEST + 1];
  if (length > WORD_LONGEST || n > WORD_LONGEST) return false;
  for (size_t i = 0; i <= length; i++) cost[i][0] = (int)i;
  for (size_t j = 0; j <= n; j++) cost[0][j] = (int)j;
  for (size_t i = 1; i <= length; i++)
    for (size_t j = 1; j <= n; j++) {
      const int changed = cost[i - 1][j - 1] + (word[i - 1] != known[j - 1]);
      cost[i][j] = least(changed, 1 + least(cost[i - 1][j], cost[i][j - 1]));
      if (i > 1 && j > 1 && word[i - 1] == known[j - 2] && word[i - 2] == known[j - 1])
        cost[i][j] = least(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  *edits = cost[length][n];
  return *edits <= EDITS_MOST && 2 * (size_t)*edits <= length;
}

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

/* "default 0.9", or "" where there is none. */
static void describe_default(const struct setting *o, const void *value, char *text, size_t size) {
  *text = '\0';
  const char *name = NULL;
  if (o->kind == OPTION_INTEGER)
    snprintf(text, size, "default %" PRId64, *(const int64_t *)value);
  else if (o->kind == OPTION_REAL)
    snprintf(text, size, "default %.6g", *(const double *)value);
  else if (o->kind == OPTION_TEXT)
    name = *(const char *const *)value;
  else if (o->kind == OPTION_TERM)
    name = o->term->name(value);
  if (name) snprintf(text, size, "default %s", name);
}

/* The option's help with its default in brackets, allocated; NULL when memory ran out. */
static char *help_text(const struct setting *o, const void *value) {
  char fallback[80], *text;
  const size_t length = strlen(o->help);
  const bool bracketed = length && o->help[length - 1] == ')';
  describe_default(o, value, fallback, sizeof fallback);
  if (!*fallback) return strdup(o->help);
  if (asprintf(&text, "%.*s%s%s)", (int)(length - bracketed), o->help, bracketed ? "; " : " (", fallback) < 0)
    return NULL;
  return text;
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

/* Reads a text into the option's value; false, with what it must be, where the text does not fit. */
static bool read_value(const struct setting *o, void *value, const char *text, char expected[static OPTION_EXPECTED]) {
  if (o->kind == OPTION_FLAG) {
    *(bool *)value = true;
  } else if (o->kind == OPTION_TEXT) {
    const bool file = strncmp(o->value, "FILE", 4) == 0, folder = strcmp(o->value, "DIR") == 0;
    snprintf(expected, OPTION_EXPECTED, "%s", file ? "must name a file" : "must name a folder");
    if (!*text && (file || folder)) return false;
    *(const char **)value = text;
  } else if (o->kind == OPTION_TERM) {
    if (o->term->parse(text, value) == DESCENT_OK) return true;
    snprintf(expected, OPTION_EXPECTED, "%s", descent_last_error());
    return false;
  } else {
    int64_t whole = 0;
    double real = 0;
    bool valid = o->kind == OPTION_INTEGER ? option_integer(text, &whole) : option_real(text, &real);
    if (!valid || !in_range(o, o->kind == OPTION_INTEGER ? (double)whole : real)) {
      const int length = snprintf(expected, OPTION_EXPECTED, "must be ");
      describe_range(o, expected + length, (size_t)(OPTION_EXPECTED - length));
      return false;
    }
    if (o->kind == OPTION_INTEGER)
      *(int64_t *)value = whole;
    else
      *(double *)value = real;
  }
  return true;
}

bool option_accepts(const struct setting *o, const char *text, char expected[static OPTION_EXPECTED]) {
  union {
    bool flag;
    int64_t whole;
    double real;
    const char *text;
    int term;
  } value;
  return read_value(o, &value, text, expected);
}

static error_t set_value(struct parsing *parsing, const struct argp_state *state, const struct setting *o, void *value,
                         const char *text) {
  char expected[OPTION_EXPECTED];
  return read_value(o, value, text, expected) ? 0 : bad_value(parsing, state, o, text, expected);
}

/* One name in the table and the option that it stands for. */
struct spelling {
  const struct argp_option *row, *option;
};

/* The next name after `*at` (zeroed before the first); false at the end. The names of an option follow each other. */
static bool next_spelling(const struct parsing *parsing, struct spelling *at) {
  do at->row = at->row ? at->row + 1 : parsing->table;
  while (!at->row->name && at->row->doc);
  if (at->row->name && !(at->row->flags & OPTION_ALIAS)) at->option = at->row;
  return at->row->name != NULL;
}

/* "--lr or --l2": the options that begin with the word, or else those that resemble it most; "" when there is none. */
static void list_meant(const struct parsing *parsing, const char *word, size_t length, bool beginning, char *out,
                       size_t size) {
  size_t used = 0;
  int fewest = INT_MAX;
  const struct argp_option *last = NULL;
  *out = '\0';
  for (struct spelling at = {0}; next_spelling(parsing, &at);) {
    int edits = 0;
    const char *name = at.row->name;
    if (beginning ? strncmp(name, word, length) != 0 : !word_resembles(word, length, name, &edits)) continue;
    if (edits > fewest || (edits == fewest && at.option == last)) continue;
    if (edits < fewest) used = 0;
    fewest = edits;
    last = at.option;
    const int n = snprintf(out + used, size - used, "%s--%s", used ? " or " : "", at.option->name);
    used += (size_t)n < size - used ? (size_t)n : 0;
    out[used] = '\0'; /* no half of a name */
  }
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
    for (struct spelling at = {0}; next_spelling(parsing, &at);) {
      if (strncmp(at.row->name, refused + 2, length) != 0) continue;
      matches = at.row->name[length] ? matches + (at.option != match) : 1;
      match = at.option;
      if (!at.row->name[length]) break;
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
      if (parsing->exit_code == OPTIONS_CONTINUE) report_refused(parsing, state);
      return 0;
    default: {
      void *value;
      const struct setting *o = option_of_key(syntax, key, &value);
      return o ? set_value(parsing, state, o, value, text) : ARGP_ERR_UNKNOWN;
    }
  }
}

/* Aliases own their names, other rows their texts. */
static void table_free(struct argp_option *table, int count) {
  for (int i = 0; table && i < count; i++)
    free((char *)(uintptr_t)((table[i].flags & OPTION_ALIAS) ? table[i].name : table[i].doc));
  free(table);
}

/* The row of an option or a heading; false when memory ran out. */
static bool add_option(struct argp_option *row, const struct setting *o, const void *value, int key, int group) {
  if (o->kind == OPTION_HEADING) {
    *row = (struct argp_option){.doc = strdup(o->name), .group = group};
    return row->doc != NULL;
  }
  *row = (struct argp_option){
      .name = o->name, .key = o->letter ? o->letter : key, .arg = o->value, .doc = help_text(o, value), .group = group};
  return row->doc != NULL;
}

/* The option's other names, with underscores and from `aliases`, behind its row; false when memory ran out. */
static bool add_aliases(struct argp_option *table, int *row, const char *name) {
  const char *names[1 + ALIASES] = {name};
  int n = 1;
  for (int i = 0; i < ALIASES; i++) {
    if (strcmp(aliases[i].name, name) != 0) continue;
    names[n++] = aliases[i].alias;
    table[*row] = (struct argp_option){.name = strdup(aliases[i].alias),
                                       .flags = OPTION_ALIAS | (aliases[i].shown ? 0 : OPTION_HIDDEN)};
    if (!table[(*row)++].name) return false;
  }
  for (int i = 0; i < n; i++) {
    if (!strchr(names[i], '-')) continue;
    char *spelled = strdup(names[i]);
    if (!spelled) return false;
    replace(spelled, '-', '_');
    table[(*row)++] = (struct argp_option){.name = spelled, .flags = OPTION_ALIAS | OPTION_HIDDEN};
  }
  return true;
}

/* argp's rows for the sets and for the three options that every command has. Texts are allocated: NULL when memory ran
 * out. */
static struct argp_option *table_create(const struct command_syntax *syntax, int *count) {
  static const struct argp_option last[] = {
      {NULL, 0, NULL, 0, "Help:", -1},
      {"help", '?', NULL, 0, "Print this help", 0},
      {"usage", KEY_USAGE, NULL, 0, "Print a short usage message", 0},
      {"version", 'V', NULL, 0, "Print the version and the build configuration", 0},
      {0},
  };
  const int n_last = sizeof last / sizeof *last;
  int n = 2 * ALIASES + n_last;
  for (int s = 0; s < syntax->n_sets; s++)
    for (const struct setting *o = syntax->sets[s].options; o->kind != OPTION_END; o++) n += 2;
  struct argp_option *table = calloc((size_t)n, sizeof *table);
  if (!table) return NULL;
  int row = 0, key = KEY_FIRST, group = 0;
  for (int s = 0; s < syntax->n_sets; s++)
    for (const struct setting *o = syntax->sets[s].options; o->kind != OPTION_END; o++, key++) {
      if (o->kind == OPTION_HEADING) group++;
      if (add_option(&table[row++], o, (const char *)syntax->sets[s].values + o->offset, key, group) &&
          (o->kind == OPTION_HEADING || add_aliases(table, &row, o->name)))
        continue;
      table_free(table, row);
      return NULL;
    }
  memcpy(table + row, last, sizeof last);
  *count = row;
  return table;
}

int options_parse(const struct command_syntax *syntax, int argc, char **argv, const char *config_path, int n_config,
                  struct arguments *arguments) {
  struct parsing parsing = {.syntax = syntax,
                            .arguments = arguments,
                            .config_path = config_path,
                            .n_config = n_config,
                            .exit_code = OPTIONS_CONTINUE};
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

int options_run(const struct command_syntax *syntax, int argc, char **argv,
                int (*run)(void *values, const struct arguments *arguments), void *values) {
  struct arguments arguments;
  const int code = options_parse(syntax, argc, argv, NULL, 0, &arguments);
  return code == OPTIONS_CONTINUE ? run(values, &arguments) : code;
}

static bool add_value(cJSON *record, const struct setting *o, const void *value) {
  const char *name = recorded_name(o->name);
  if (o->kind == OPTION_FLAG) return cJSON_AddBoolToObject(record, name, *(const bool *)value) != NULL;
  if (o->kind == OPTION_REAL) return cJSON_AddNumberToObject(record, name, *(const double *)value) != NULL;
  if (o->kind == OPTION_TERM) return cJSON_AddStringToObject(record, name, o->term->name(value)) != NULL;
  if (o->kind == OPTION_TEXT) {
    const char *text = *(const char *const *)value;
    return !text || cJSON_AddStringToObject(record, name, text) != NULL;
  }
  enum { EXACT_DIGITS = 15 }; /* of a JSON number as cJSON writes it; longer integers are kept as text */
  char digits[24];
  int length = snprintf(digits, sizeof digits, "%" PRId64, *(const int64_t *)value);
  if (length > EXACT_DIGITS) return cJSON_AddStringToObject(record, name, digits) != NULL;
  return cJSON_AddNumberToObject(record, name, (double)*(const int64_t *)value) != NULL;
}

static bool is_recorded(const struct setting *o, const void *value) {
  if (o->kind == OPTION_HEADING || o->marks & OPTION_UNRECORDED) return false;
  return !(o->marks & OPTION_RECORDED_UNLESS_0) || *(const int64_t *)value != 0;
}

cJSON *options_record(const struct command_syntax *syntax) {
  cJSON *record = cJSON_CreateObject();
  for (int s = 0; record && s < syntax->n_sets; s++)
    for (const struct setting *o = syntax->sets[s].options; o->kind != OPTION_END; o++) {
      const void *value = (const char *)syntax->sets[s].values + o->offset;
      if (!is_recorded(o, value) || add_value(record, o, value)) continue;
      cJSON_Delete(record);
      return NULL;
    }
  return record;
}
