/* svmlight and LIBSVM text: lines "label index:value index:value # comment"; unlisted values are 0. As XGBoost has it,
 * "label:weight" may begin every line. Read twice: first to count rows and columns, to detect whether indices start at
 * 0 or 1, and to tell label:weight from the first feature of a row that lacks its label. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/number.h"
#include "core/progress.h"
#include "core/status.h"
#include "data/expansion.h"
#include "data/matrix.h"
#include "data/stream.h"
#include "data/text.h"

enum { CHUNK = 1 << 18, MAX_LINE = 1 << 28 };

struct svmlight {
  const char *path;
  struct stream stream;
  int64_t line; /* current line, from 1 */
  char *text;   /* bytes [begin, end) of the file */
  int64_t begin, end, capacity;
  bool at_end;         /* of the file */
  int stated, trained; /* first index, as stated and as in training; -1: neither */
  int64_t base;        /* first index; -1: not known yet */
  int64_t columns;     /* number of features; 0: not known yet */
  int64_t least, most; /* smallest and largest index so far */
  int64_t most_line;   /* where `most` was first */
  bool queries;        /* a "qid:" was found */
  int weighted;        /* whether rows begin with label:weight; -1: no row yet */
  bool decided;        /* a row was found whose label:weight cannot be index:value */
  char first[64];      /* the first label:weight, and its line */
  int64_t first_line;
  int64_t inexact; /* labels that a double does not hold exactly */
};

/* ---- lines ------------------------------------------------------------------------------------------------------ */

static descent_status read_more(struct svmlight *s) {
  descent_status status;
  int64_t got;
  memmove(s->text, s->text + s->begin, (size_t)(s->end - s->begin));
  s->end -= s->begin;
  s->begin = 0;
  if (s->end == s->capacity) {
    if (s->capacity >= MAX_LINE)
      TRY(status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": a line exceeds 256 MiB (is this a text file?)", s->path,
                     s->line));
    char *grown = memory_resize(s->text, s->capacity, 2 * s->capacity, 1, "a line");
    if (!grown) TRY(DESCENT_ERROR_MEMORY);
    s->text = grown;
    s->capacity *= 2;
  }
  TRY(stream_read(&s->stream, s->text + s->end, s->capacity - s->end, &got));
  s->at_end = got == 0;
  s->end += got;
done:
  return status;
}

/* The next line, without its end; *line NULL at the end of the file. Valid until the next call. */
static descent_status next_line(struct svmlight *s, const char **line, const char **end) {
  descent_status status = DESCENT_OK;
  const char *newline = NULL;
  for (int64_t seen = 0; !newline && !s->at_end;) {
    newline = memchr(s->text + s->begin + seen, '\n', (size_t)(s->end - s->begin - seen));
    seen = s->end - s->begin;
    if (!newline) TRY(read_more(s));
  }
  *line = s->begin == s->end ? NULL : s->text + s->begin;
  *end = newline ? newline : s->text + s->end;
  s->begin = *end - s->text + (newline != NULL);
  s->line++;
done:
  return status;
}

static descent_status restart(struct svmlight *s) {
  s->line = s->begin = s->end = 0;
  s->at_end = false;
  return stream_rewind(&s->stream);
}

/* ---- one line --------------------------------------------------------------------------------------------------- */

static descent_status token_error(const struct svmlight *s, const char *token, size_t length, const char *problem) {
  char shown[64];
  text_escape(token, length, shown, sizeof shown);
  return status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": '%s' %s", s->path, s->line, shown, problem);
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/* The next word before `end`; false at the end of the line or at a comment. */
static bool next_token(const char **at, const char *end, const char **token, size_t *length) {
  while (*at < end && is_blank(**at)) ++*at;
  *token = *at;
  if (*at == end || **at == '#') return false;
  while (*at < end && !is_blank(**at) && **at != '#') ++*at;
  *length = (size_t)(*at - *token);
  return true;
}

/* A label:weight, which begins either every row or none. */
static descent_status parse_weighted(struct svmlight *s, const char *token, size_t length, double *label,
                                     double *weight) {
  const char *const colon = memchr(token, ':', length);
  if (s->weighted == 0)
    return token_error(s, token, length,
                       "is in the place of the label, but the rows before have no label:weight (if the label is "
                       "unknown, insert 0)");
  if (!number_parse(token, (size_t)(colon - token), label) || !isfinite(*label) ||
      !number_parse(colon + 1, length - (size_t)(colon + 1 - token), weight) || !text_number_fits(*weight) ||
      *weight < 0)
    return token_error(s, token, length,
                       "is in the place of the label (if it is unknown, insert 0; the weight of a label:weight is "
                       "finite and >= 0)");
  if (s->weighted < 0) {
    text_escape(token, length, s->first, sizeof s->first);
    s->first_line = s->line;
  }
  s->weighted = 1;
  return DESCENT_OK;
}

static descent_status parse_label(struct svmlight *s, const char *token, size_t length, double *label, double *weight) {
  if (memchr(token, ':', length)) return parse_weighted(s, token, length, label, weight);
  if (s->weighted == 1)
    return token_error(s, token, length,
                       "has no weight, but the rows before begin with label:weight (add a weight to every row, or to "
                       "none)");
  s->weighted = 0;
  if (number_parse(token, length, label) && isfinite(*label)) return DESCENT_OK;
  if (memchr(token, ',', length))
    return token_error(s, token, length,
                       "is a list of labels: a row has one (use a CSV file with one column per label)");
  return token_error(s, token, length, "is not a valid label: must be a finite number (number the classes)");
}

/* "7:0.5" */
static descent_status parse_pair(const struct svmlight *s, const char *token, size_t length, int64_t *index,
                                 double *value) {
  const char *const colon = memchr(token, ':', length);
  if (!colon) return token_error(s, token, length, "is not of the form index:value");
  *index = 0;
  for (const char *p = token; p < colon; p++) {
    if (*p < '0' || *p > '9') return token_error(s, token, length, "has an invalid index: must be an integer >= 0");
    *index = *index * 10 + (*p - '0');
    if (*index > MATRIX_MAX_COLUMNS)
      return token_error(s, token, length, "has an index above 4194304, the maximum number of columns");
  }
  if (colon == token) return token_error(s, token, length, "has no index");
  if (*index < s->base)
    return token_error(s, token, length,
                       s->stated == 1
                           ? "has index 0, but indices count from 1 in format svmlight:1"
                           : "has index 0, but indices count from 1 in the file that the network was trained "
                             "on (choose format svmlight:0 if they count from 0 in this one)");
  if (number_parse(colon + 1, length - (size_t)(colon + 1 - token), value)) return DESCENT_OK;
  return token_error(s, token, length, "has an invalid value: must be a number");
}

/* The column of an index, once the base is known. */
static descent_status column_of(const struct svmlight *s, const char *token, size_t length, int64_t index,
                                int64_t *column) {
  char problem[200];
  *column = index - s->base;
  if (*column >= 0 && *column < s->columns) return DESCENT_OK;
  const bool from_training = s->stated < 0 && s->trained >= 0;
  snprintf(problem, sizeof problem, "is beyond the expected %" PRId64 " columns, counted from %" PRId64 "%s%s",
           s->columns, s->base, from_training ? " as in training" : "",
           from_training && *column == s->columns && s->base == 0
               ? " (choose format svmlight:1 if this file counts from 1)"
               : "");
  return token_error(s, token, length, problem);
}

/* Whether a row shows that its first token is label:weight rather than its first feature: the label cannot be an index,
 * or is not below the index that follows, as indices ascend. */
static bool shows_weight(const struct svmlight *s, const char *token, double label, int64_t index) {
  const char *p = token;
  while (*p >= '0' && *p <= '9') p++;
  return *p != ':' || p == token || label > MATRIX_MAX_COLUMNS || label < (double)s->base ||
         (index >= 0 && (double)index <= label);
}

/* `cells`: of the row, zeroed, after the features the weight, if rows have one, and the label; NULL while counting.
 * *empty: the line holds no row. */
static descent_status parse_line(struct svmlight *s, const char *at, const char *end, double *cells, bool *empty) {
  const char *token;
  size_t length;
  double label, weight = 1, value;
  int64_t last = -1, index = 0, column;
  descent_status status = DESCENT_OK;
  *empty = !next_token(&at, end, &token, &length);
  if (*empty) return DESCENT_OK;
  const char *const first = token;
  TRY(parse_label(s, token, length, &label, &weight));
  if (cells && fabs(label) >= 0x1p53) {
    const char *const colon = memchr(token, ':', length);
    char written[NUMBER_DIGITS], held[NUMBER_DIGITS];
    number_whole(token, colon ? (size_t)(colon - token) : length, NUMBER_PLAIN, label, written);
    s->inexact += strcmp(written, number_whole(NULL, 0, NUMBER_PLAIN, label, held)) != 0;
  }
  if (cells && s->weighted) cells[s->columns] = weight;
  if (cells) cells[s->columns + s->weighted] = label;
  if (s->weighted && shows_weight(s, first, label, -1)) s->decided = true;
  while (next_token(&at, end, &token, &length)) {
    if (last < 0 && length > 4 && memcmp(token, "qid:", 4) == 0) {
      s->queries = s->decided = true;
      continue;
    }
    TRY(parse_pair(s, token, length, &index, &value));
    if (last < 0 && s->weighted && shows_weight(s, first, label, index)) s->decided = true;
    if (index <= last)
      TRY(token_error(s, token, length, "is out of order: the indices of a row must ascend, without duplicates"));
    last = index;
    if (index < s->least) s->least = index;
    if (index > s->most) s->most = index, s->most_line = s->line;
    if (!cells) continue;
    TRY(column_of(s, token, length, index, &column));
    cells[column] = value;
  }
done:
  return status;
}

/* ---- the file --------------------------------------------------------------------------------------------------- */

static descent_status next_row(struct svmlight *s, double *cells, bool *end) {
  const char *line, *line_end;
  bool empty = true;
  descent_status status = DESCENT_OK;
  *end = false;
  while (empty && !*end) {
    TRY(next_line(s, &line, &line_end));
    *end = !line;
    if (line) TRY(parse_line(s, line, line_end, cells, &empty));
  }
done:
  return status;
}

static descent_status read_rows(struct matrix *matrix, int64_t rows, double *cells) {
  struct svmlight *s = matrix->state;
  descent_status status = DESCENT_OK;
  memset(cells, 0, (size_t)(rows * matrix->columns) * sizeof *cells);
  for (int64_t r = 0; r < rows; r++) {
    bool end;
    TRY(next_row(s, cells + r * matrix->columns, &end));
    if (end)
      TRY(status_set(DESCENT_ERROR_READ, "%s:%" PRId64 ": the file was truncated while it was read", s->path, s->line));
  }
  matrix->inexact = s->inexact;
done:
  return status;
}

/* One large index makes every row that long. */
static descent_status check_expansion(const struct svmlight *s, int64_t rows, int64_t stored) {
  char detail[100];
  snprintf(detail, sizeof detail, " (index %" PRId64 " is first at line %" PRId64 ")", s->most, s->most_line);
  return expansion_check(s->path, rows, s->columns, stored, detail, "correct the index, or hash the features to fewer");
}

/* First pass: counts the rows and determines base and number of columns. */
static descent_status survey(struct svmlight *s, int64_t *rows, int64_t *stored) {
  enum { SOME_ROWS = 256 };
  descent_status status = DESCENT_OK;
  bool end = false;
  for (*rows = -1; !end; ++*rows) {
    TRY(next_row(s, NULL, &end));
    if (*rows % SOME_ROWS == 0) /* the second pass reports rows, which table.c counts */
      TRY(progress_report("counting", s->path, "bytes", stream_used(&s->stream),
                          s->stream.size > 0 ? s->stream.size : 0));
  }
  if (*rows == 0) TRY(status_set(DESCENT_ERROR_DATA, "%s: the file has no rows", s->path));
  if (s->weighted && !s->decided)
    TRY(status_set(DESCENT_ERROR_DATA,
                   "%s:%" PRId64 ": '%s' is in the place of the label, and no row shows whether it is label:weight (if "
                   "the label is unknown, insert 0; else write it as a decimal, %.*s.0)",
                   s->path, s->first_line, s->first, (int)strcspn(s->first, ":"), s->first));
  if (s->base < 0) s->base = s->least == 0 ? 0 : 1;
  const bool of_file = s->columns == 0;
  if (of_file) s->columns = s->most - s->base + 1;
  if (s->columns < 1) TRY(status_set(DESCENT_ERROR_DATA, "%s: no row lists a feature: nothing to learn from", s->path));
  *stored = stream_bytes(&s->stream);
  if (of_file) TRY(check_expansion(s, *rows, *stored));
  TRY(restart(s));
done:
  return status;
}

static void close_svmlight(void *state) {
  struct svmlight *s = state;
  stream_close(&s->stream);
  free(s->text);
  free(s);
}

static void write_note(const struct svmlight *s, char note[NOTE_SIZE]) {
  char indices[100] = "";
  const char *reason = s->base ? "as none is 0" : "as one is 0";
  if (s->trained >= 0) reason = "as in training";
  if (s->stated >= 0)
    reason = s->trained == 1 ? "as stated, but from 1 in training" : "as stated, but from 0 in training";
  const bool expected = s->stated >= 0 && (s->trained < 0 || s->trained == s->stated);
  if (!expected) snprintf(indices, sizeof indices, "indices count from %d, %s", (int)s->base, reason);
  note_add(note, indices);
  if (s->weighted) note_add(note, "rows have weights, as label:weight");
  if (s->queries) note_add(note, "qid is left out");
}

descent_status svmlight_open(const char *path, int stated, int trained, int64_t features, struct matrix *matrix) {
  int64_t rows, stored;
  descent_status status;
  struct svmlight *s = memory_allocate(1, sizeof *s, "the reader");
  if (!s) return DESCENT_ERROR_MEMORY;
  *s = (struct svmlight){.path = path,
                         .stated = stated,
                         .trained = trained,
                         .base = stated >= 0 ? stated : trained,
                         .columns = features,
                         .least = INT64_MAX,
                         .most = -1,
                         .weighted = -1};
  s->capacity = CHUNK;
  s->text = memory_allocate(CHUNK, 1, "the read buffer");
  if (!s->text) TRY(DESCENT_ERROR_MEMORY);
  TRY(stream_require_file(path, "which svmlight requires, as it is read twice"));
  TRY(stream_open(path, &s->stream));
  s->path = s->stream.path;
  TRY(survey(s, &rows, &stored));
  *matrix = (struct matrix){.path = path,
                            .rows = rows,
                            .columns = s->columns + 1 + s->weighted,
                            .targets = 1,
                            .weights = s->weighted,
                            .stored = stored,
                            .first_index = s->base,
                            .indexed_columns = s->columns,
                            .read = read_rows,
                            .close = close_svmlight,
                            .state = s};
  write_note(s, matrix->note);
  s = NULL;
done:
  if (s) close_svmlight(s);
  return status;
}
