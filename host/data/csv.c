/* The CSV reader: one pass through libcsv, cells straight into the float matrix. A file is refused at the first cell
 * that cannot be used, with file, line, column and value; nothing is half-loaded. */
#include <csv.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"
#include "core/status.h"
#include "data/columns.h"
#include "data/dataset.h"
#include "data/targets.h"

enum { CHUNK = 1 << 18, HELD_RECORDS = 2, MOST_COLUMNS = 1 << 24 };

struct reader {
  const char *path;
  const descent_dataset_options *options;
  const struct dataset_schema *schema;
  descent_status status;

  int64_t line;        /* of the next record's first character, from 1 */
  int64_t record_line; /* of the current record */
  int last_terminator; /* '\r' just ended a record: a '\n' right after belongs to it */
  int64_t column;      /* cells of the current record so far */

  /* The first records are held as text until header and columns are known. */
  struct text_list held[HELD_RECORDS];
  int64_t held_line[HELD_RECORDS];
  int n_held;
  bool ready;

  struct columns columns;
  struct targets targets;
  float *X; /* (capacity, columns.inputs) */
  int64_t rows, capacity;
};

static descent_status cell_error(struct reader *r, int64_t line, int64_t column, const char *text, size_t length,
                                 const char *what) {
  char shown[64], name[80];
  text_escape(text, length, shown, sizeof shown);
  columns_describe(&r->columns, column, name, sizeof name);
  return r->status =
             status_set(DESCENT_ERROR_DATA, "%s:%lld: %s: '%s' %s", r->path, (long long)line, name, shown, what);
}

static bool grow(struct reader *r) {
  int64_t capacity = r->capacity ? r->capacity * 2 : 1024, cells, bytes;
  void *X = NULL;
  if (size_product(capacity, r->columns.inputs, &cells) && size_product(cells, sizeof *r->X, &bytes))
    X = realloc(r->X, (size_t)bytes);
  if (!X) {
    r->status = status_set(DESCENT_ERROR_MEMORY, "%s:%lld: out of memory for %lld rows of %lld columns", r->path,
                           (long long)r->record_line, (long long)capacity, (long long)r->columns.inputs);
    return false;
  }
  r->X = X;
  r->capacity = capacity;
  return true;
}

static int64_t count_lines(const char *text, size_t length) {
  int64_t lines = 0;
  for (const char *p = text, *end = text + length; (p = memchr(p, '\n', (size_t)(end - p))); p++) lines++;
  return lines;
}

static void accept_cell(struct reader *r, int64_t line, int64_t column, const char *text, size_t length) {
  if (column >= r->columns.n) return; /* reported when the record ends */
  int64_t role = r->columns.roles[column];
  if (column == 0 && r->rows == r->capacity && !grow(r)) return;
  if (role >= 0) {
    double value;
    if (!number_parse(text, length, &value))
      cell_error(r, line, column, text, length,
                 length ? "is not a number (correct the cell or remove the column)"
                        : "is empty (fill the cell or remove the row)");
    else if (!isfinite(value) || fabs(value) > (double)3.4028234e38f)
      cell_error(r, line, column, text, length, "is not a finite 32-bit number (correct the cell or remove the row)");
    else
      r->X[r->rows * r->columns.inputs + role] = (float)value;
  } else if (role == COLUMN_TARGET) {
    const char *problem = NULL;
    if (!targets_add(&r->targets, text, length, &problem)) {
      if (problem)
        cell_error(r, line, column, text, length, problem);
      else
        r->status = DESCENT_ERROR_MEMORY;
    }
  }
}

static void end_record(struct reader *r, int64_t line, int64_t cells) {
  if (cells != r->columns.n) {
    r->status = status_set(DESCENT_ERROR_DATA, "%s:%lld: %lld cells where the first line has %lld", r->path,
                           (long long)line, (long long)cells, (long long)r->columns.n);
    return;
  }
  r->rows++;
}

/* Decides header and columns from the held records, then reads those that are data. */
static void settle(struct reader *r) {
  r->ready = true;
  bool header = r->options->header > 0;
  if (r->options->header < 0)
    header = !text_list_any_number(&r->held[0]) && (r->n_held < 2 || text_list_any_number(&r->held[1]));
  r->status = columns_resolve(&r->columns, r->path, &r->held[0], header, r->options, r->schema);
  for (int i = header; r->status == DESCENT_OK && i < r->n_held; i++) {
    r->record_line = r->held_line[i];
    for (int64_t c = 0; r->status == DESCENT_OK && c < r->held[i].n; c++)
      accept_cell(r, r->held_line[i], c, r->held[i].items[c], strlen(r->held[i].items[c]));
    if (r->status == DESCENT_OK) end_record(r, r->held_line[i], r->held[i].n);
  }
  for (int i = 0; i < r->n_held; i++) text_list_clear(&r->held[i]);
}

static void on_cell(void *text, size_t length, void *user) {
  struct reader *r = user;
  if (r->status != DESCENT_OK) return;
  if (r->column == 0) r->record_line = r->line;
  if (r->ready)
    accept_cell(r, r->record_line, r->column, text, length);
  else if (r->column >= MOST_COLUMNS)
    r->status =
        status_set(DESCENT_ERROR_DATA, "%s:%lld: more than %d columns", r->path, (long long)r->line, MOST_COLUMNS);
  else if (!text_list_add(&r->held[r->n_held], text, length))
    r->status = status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the first lines", r->path);
  r->column++;
  r->line += count_lines(text, length);
}

static void on_record(int terminator, void *user) {
  struct reader *r = user;
  if (r->status != DESCENT_OK) return;
  bool blank = r->column == 0;
  if (!blank) {
    if (r->ready)
      end_record(r, r->record_line, r->column);
    else {
      r->held_line[r->n_held++] = r->record_line;
      if (r->n_held == HELD_RECORDS) settle(r);
    }
  }
  r->column = 0;
  if (!(terminator == '\n' && blank && r->last_terminator == '\r')) r->line++;
  r->last_terminator = terminator;
}

/* The delimiter that occurs most in the first line, quotes aside; a comma when none does. */
static char detect_delimiter(const char *text, size_t length) {
  static const char candidates[] = {',', ';', '\t', '|'};
  int counts[sizeof candidates] = {0}, best = 0;
  bool quoted = false, any = false;
  for (size_t i = 0; i < length; i++) {
    if (text[i] == '"') quoted = !quoted;
    if (quoted) continue;
    if ((text[i] == '\n' || text[i] == '\r') && any) break;
    any = any || (text[i] != '\n' && text[i] != '\r');
    for (size_t c = 0; c < sizeof candidates; c++) counts[c] += text[i] == candidates[c];
  }
  for (int c = 1; c < (int)sizeof candidates; c++)
    if (counts[c] > counts[best]) best = c;
  return candidates[best];
}

static descent_status parse_error(struct reader *r, struct csv_parser *parser) {
  if (csv_error(parser) == CSV_EPARSE)
    return status_set(DESCENT_ERROR_DATA,
                      "%s:%lld: a quote in the wrong place (quote the whole cell, double quotes in it)", r->path,
                      (long long)r->line);
  return status_set(DESCENT_ERROR_MEMORY, "%s:%lld: %s", r->path, (long long)r->line, csv_strerror(csv_error(parser)));
}

static descent_status read_stream(struct reader *r, FILE *file, struct csv_parser *parser) {
  static const unsigned char bom[] = {0xef, 0xbb, 0xbf};
  char *buffer = memory_allocate(CHUNK, 1, "the read buffer");
  if (!buffer) return DESCENT_ERROR_MEMORY;
  descent_status status = DESCENT_OK;
  int64_t offset = 0;
  size_t got;
  while ((got = fread(buffer, 1, CHUNK, file)) > 0) {
    char *text = buffer;
    if (offset == 0) {
      if (got >= 2 && (!memcmp(text, "\xff\xfe", 2) || !memcmp(text, "\xfe\xff", 2))) {
        status = status_set(DESCENT_ERROR_DATA, "%s: is UTF-16 text: save it as UTF-8", r->path);
        goto done;
      }
      size_t skip = got >= sizeof bom && !memcmp(text, bom, sizeof bom) ? sizeof bom : 0;
      text += skip, got -= skip, offset += (int64_t)skip;
      char delimiter = r->options->delimiter ? r->options->delimiter : detect_delimiter(text, got);
      csv_set_delim(parser, (unsigned char)delimiter);
    }
    const char *nul = memchr(text, 0, got);
    if (nul) {
      status = status_set(DESCENT_ERROR_DATA, "%s: byte %lld is NUL: not a text file", r->path,
                          (long long)(offset + (nul - text)));
      goto done;
    }
    size_t parsed = csv_parse(parser, text, got, on_cell, on_record, r);
    if (r->status != DESCENT_OK) {
      status = r->status;
      goto done;
    }
    if (parsed != got) {
      status = parse_error(r, parser);
      goto done;
    }
    offset += (int64_t)got;
  }
  if (ferror(file)) {
    status = status_set(DESCENT_ERROR_READ, "%s: cannot read: %s", r->path, strerror(errno));
    goto done;
  }
  if (csv_fini(parser, on_cell, on_record, r)) {
    status = status_set(DESCENT_ERROR_DATA, "%s:%lld: a quote is opened and never closed", r->path, (long long)r->line);
    goto done;
  }
  if (!r->ready && r->n_held && r->status == DESCENT_OK) settle(r);
  status = r->status;
  if (status == DESCENT_OK && r->rows == 0)
    status = r->ready ? status_set(DESCENT_ERROR_DATA, "%s:1: a header and no rows", r->path)
                      : status_set(DESCENT_ERROR_DATA, "%s: is empty", r->path);
done:
  free(buffer);
  return status;
}

/* Moves what was read into a storage. */
static descent_status finish(struct reader *r, struct dataset_storage **out) {
  descent_status status = DESCENT_OK;
  struct dataset_storage *storage = memory_allocate(1, sizeof *storage, "the dataset");
  if (!storage) return DESCENT_ERROR_MEMORY;
  storage->references = 1;
  storage->rows = r->rows;
  storage->inputs = r->columns.inputs;
  storage->task = r->schema ? r->schema->task : DESCENT_TASK_AUTO;
  if (r->columns.target >= 0) {
    char name[80];
    columns_describe(&r->columns, r->columns.target, name, sizeof name);
    TRY(targets_finish(&r->targets, r->path, name, r->options->task, r->schema, storage));
  }
  float *X = realloc(r->X, (size_t)(r->rows * r->columns.inputs) * sizeof *X); /* gives the slack back */
  storage->owned_X = X ? X : r->X;
  storage->X = storage->owned_X;
  r->X = NULL;
  storage->input_names = r->columns.input_names;
  storage->target_name = r->columns.target_name;
  r->columns.input_names = NULL;
  r->columns.target_name = NULL;
  *out = storage;
  storage = NULL;
done:
  if (storage) dataset_storage_release(storage);
  return status;
}

descent_status csv_read(const char *path, const descent_dataset_options *options, const struct dataset_schema *schema,
                        struct dataset_storage **storage) {
  struct reader r = {.path = path, .options = options, .schema = schema, .line = 1, .record_line = 1};
  struct csv_parser parser;
  descent_status status = DESCENT_OK;
  r.targets.task = schema ? schema->task : options->task;
  r.targets.schema = schema;
  r.columns.target = -1;
  if (csv_init(&parser, CSV_STRICT | CSV_STRICT_FINI | CSV_REPALL_NL | CSV_APPEND_NULL))
    return status_set(DESCENT_ERROR_INTERNAL, "%s: cannot start the CSV parser", path);
  FILE *file = fopen(path, "rb");
  if (!file) {
    status = status_set(DESCENT_ERROR_READ, "%s: cannot read: %s", path, strerror(errno));
    goto done;
  }
  TRY(read_stream(&r, file, &parser));
  TRY(finish(&r, storage));
done:
  if (file) fclose(file);
  csv_free(&parser);
  for (int i = 0; i < HELD_RECORDS; i++) text_list_clear(&r.held[i]);
  columns_clear(&r.columns);
  targets_clear(&r.targets);
  free(r.X);
  return status;
}
