/* svmlight and LIBSVM text: "label index:value index:value # comment" a line, with what is not listed being 0. Read
 * twice: first to learn how many rows and columns there are, and whether indices count from 0 or 1. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/number.h"
#include "core/status.h"
#include "data/matrix.h"
#include "data/stream.h"
#include "data/text.h"

enum { CHUNK = 1 << 18, LONGEST_LINE = 1 << 28 };

struct svmlight {
  const char *path;
  struct stream stream;
  int64_t line; /* being read, from 1 */
  char *text;   /* bytes [begin, end) of the file */
  int64_t begin, end, capacity;
  bool at_end;         /* of the file */
  int64_t base;        /* of the indices; -1: not known yet */
  int64_t columns;     /* of features; 0: not known yet */
  int64_t least, most; /* indices so far */
  bool queries;        /* there is a "qid:" */
};

/* ---- lines ------------------------------------------------------------------------------------------------------ */

static descent_status more_text(struct svmlight *s) {
  descent_status status;
  int64_t got;
  memmove(s->text, s->text + s->begin, (size_t)(s->end - s->begin));
  s->end -= s->begin;
  s->begin = 0;
  if (s->end == s->capacity) {
    if (s->capacity >= LONGEST_LINE)
      TRY(status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": a line of over 256 MiB (is this a text file?)", s->path,
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
    if (!newline) TRY(more_text(s));
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

static descent_status parse_label(const struct svmlight *s, const char *token, size_t length, double *label) {
  if (number_parse(token, length, label) && isfinite(*label)) return DESCENT_OK;
  if (memchr(token, ':', length))
    return token_error(s, token, length, "where the label should be (put 0 in front where it is not known)");
  if (memchr(token, ',', length))
    return token_error(s, token, length, "are several labels: a row has one (write one column per label, as a CSV)");
  return token_error(s, token, length, "is no label: a finite number (number the classes)");
}

/* "7:0.5" */
static descent_status parse_pair(const struct svmlight *s, const char *token, size_t length, int64_t *index,
                                 double *value) {
  const char *const colon = memchr(token, ':', length);
  if (!colon) return token_error(s, token, length, "is not of the form index:value");
  *index = 0;
  for (const char *p = token; p < colon; p++) {
    if (*p < '0' || *p > '9') return token_error(s, token, length, "has no index that is a whole number of at least 0");
    *index = *index * 10 + (*p - '0');
    if (*index > MATRIX_MOST_COLUMNS)
      return token_error(s, token, length, "has an index above 4194304, which is the most columns that a table has");
  }
  if (colon == token) return token_error(s, token, length, "has no index");
  if (*index < s->base) return token_error(s, token, length, "has index 0, but they are said to count from 1");
  if (number_parse(colon + 1, length - (size_t)(colon + 1 - token), value)) return DESCENT_OK;
  return token_error(s, token, length, "has no value that is a number");
}

/* The column of an index, once the base is known. */
static descent_status column_of(const struct svmlight *s, const char *token, size_t length, int64_t index,
                                int64_t *column) {
  char problem[120];
  *column = index - s->base;
  if (*column >= 0 && *column < s->columns) return DESCENT_OK;
  snprintf(problem, sizeof problem, "is beyond the %" PRId64 " columns that are expected, counted from %" PRId64,
           s->columns, s->base);
  return token_error(s, token, length, problem);
}

/* `cells`: the row's, zeroed, with the label behind the features; NULL while counting. *empty: a line without a row. */
static descent_status parse_line(struct svmlight *s, const char *at, const char *end, double *cells, bool *empty) {
  const char *token;
  size_t length;
  double value;
  int64_t last = -1, index = 0, column;
  descent_status status = DESCENT_OK;
  *empty = !next_token(&at, end, &token, &length);
  if (*empty) return DESCENT_OK;
  TRY(parse_label(s, token, length, &value));
  if (cells) cells[s->columns] = value;
  while (next_token(&at, end, &token, &length)) {
    if (last < 0 && length > 4 && memcmp(token, "qid:", 4) == 0) {
      s->queries = true;
      continue;
    }
    TRY(parse_pair(s, token, length, &index, &value));
    if (index <= last)
      TRY(token_error(s, token, length, "does not ascend: a row lists its indices in order, each once"));
    last = index;
    if (index < s->least) s->least = index;
    if (index > s->most) s->most = index;
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
      TRY(status_set(DESCENT_ERROR_READ, "%s:%" PRId64 ": the file became shorter while it was read", s->path,
                     s->line));
  }
done:
  return status;
}

/* How many rows there are, and where the indices begin and end. */
static descent_status survey(struct svmlight *s, int64_t *rows) {
  descent_status status = DESCENT_OK;
  bool end = false;
  for (*rows = -1; !end; ++*rows) TRY(next_row(s, NULL, &end));
  if (*rows == 0) TRY(status_set(DESCENT_ERROR_DATA, "%s: there are no rows", s->path));
  if (s->base < 0) s->base = s->least == 0 ? 0 : 1;
  if (s->columns == 0) s->columns = s->most - s->base + 1;
  if (s->columns < 1)
    TRY(status_set(DESCENT_ERROR_DATA, "%s: no row lists a feature: there is none to learn from", s->path));
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

static const char *note_of(const struct svmlight *s, bool detected) {
  static const char *const notes[2][2] = {
      {"indices count from 0, as one is 0", "indices count from 0, as one is 0; qid is left out"},
      {"indices count from 1, as none is 0", "indices count from 1, as none is 0; qid is left out"}};
  return detected ? notes[s->base][s->queries] : s->queries ? "qid is left out" : NULL;
}

descent_status svmlight_open(const char *path, int base, int64_t features, struct matrix *matrix) {
  int64_t rows;
  descent_status status;
  struct svmlight *s = memory_allocate(1, sizeof *s, "the reader");
  if (!s) return DESCENT_ERROR_MEMORY;
  *s = (struct svmlight){.path = path, .base = base, .columns = features, .least = INT64_MAX, .most = -1};
  s->capacity = CHUNK;
  s->text = memory_allocate(CHUNK, 1, "the read buffer");
  if (!s->text) TRY(DESCENT_ERROR_MEMORY);
  TRY(stream_open(path, &s->stream));
  s->path = s->stream.path;
  TRY(survey(s, &rows));
  *matrix = (struct matrix){.path = path,
                            .rows = rows,
                            .columns = s->columns + 1,
                            .targets = 1,
                            .note = note_of(s, base < 0),
                            .read = read_rows,
                            .close = close_svmlight,
                            .state = s};
  s = NULL;
done:
  if (s) close_svmlight(s);
  return status;
}
