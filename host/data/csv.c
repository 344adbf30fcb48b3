/* The CSV reader: one pass, a line at a time so that every error has its line number, with libcsv for lines that
 * contain quotes. The first invalid cell fails the whole file. */
#include <csv.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/progress.h"
#include "core/status.h"
#include "data/stream.h"
#include "data/table.h"

enum {
  CHUNK = 1 << 18, /* bytes read at a time */
  MAX_COLUMNS = 1 << 22,
  MAX_CELL = 1 << 20 /* bytes; an unclosed quote would swallow the rest of the file */
};

struct reader {
  const char *path;
  struct csv_parser parser;
  const struct stream *file;
  char delimiter;
  /* The first failure. Its record is still read to the end, since a wrong number of cells explains it better. */
  descent_status status;

  int64_t line;        /* current line, from 1 */
  int64_t record_line; /* where the current record starts */
  int64_t cell_line;   /* where the next cell starts */
  int64_t column;      /* of the next cell */
  bool between;        /* between two records */
  bool after_cr;       /* the last chunk ended in CR, so a LF now belongs to the same line end */

  struct text_list first, second; /* the first records, until the columns are resolved */
  bool has_first;                 /* the first record is complete */
  bool ready;                     /* the columns are resolved */
  int64_t records;                /* number of data records */
  struct table table;
};

/* ---- cells and records ------------------------------------------------------------------------------------------ */

static void add_cell(struct reader *r, const char *text, size_t length) {
  r->status = table_add_text(&r->table, r->column, text, length, r->cell_line);
}

static void end_record(struct reader *r) {
  const int64_t n = r->table.columns.n;
  if (r->column != n && r->status != DESCENT_ERROR_MEMORY)
    r->status = status_set(DESCENT_ERROR_DATA,
                           "%s:%" PRId64 ": %" PRId64 " cell%s, but the %s has %" PRId64
                           " (add or remove cells; quote those that contain '%s')",
                           r->path, r->record_line, r->column, r->column == 1 ? "" : "s",
                           r->table.columns.names ? "header" : "first row", n,
                           csv_get_delim(&r->parser) == '\t' ? "\\t" : (char[]){(char)csv_get_delim(&r->parser), 0});
  r->records++;
  if (r->status == DESCENT_OK) r->status = table_end_row(&r->table);
}

static void repeat_record(struct reader *r, const struct text_list *record) {
  if (record->n == 0 || r->status != DESCENT_OK) return;
  r->record_line = record->lines[0];
  for (r->column = 0; r->status == DESCENT_OK && r->column < record->n; r->column++) {
    r->cell_line = record->lines[r->column];
    add_cell(r, record->items[r->column], strlen(record->items[r->column]));
  }
  r->column = record->n;
  end_record(r);
}

/* Resolves the columns from the first two records; the first is data unless it is a header. */
static void resolve_columns(struct reader *r) {
  const int64_t line = r->record_line, cell_line = r->cell_line;
  r->status = table_resolve_columns(&r->table, &r->first, r->second.n ? &r->second : NULL);
  r->ready = true;
  if (r->status == DESCENT_OK && !r->table.columns.names) repeat_record(r, &r->first);
  repeat_record(r, &r->second);
  r->record_line = line;
  r->cell_line = cell_line;
  text_list_clear(&r->first);
  text_list_clear(&r->second);
}

/* Whether the columns so far are in proportion to the bytes so far: cells of two rows as text cost as much as 32 rows of
 * numbers. */
static descent_status check_columns(struct reader *r) {
  enum { AT_A_TIME = 1 << 16, TEXT_ROWS = 34 };
  if (r->column % AT_A_TIME != 0) return DESCENT_OK;
  r->table.stored = stream_bytes(r->file);
  if (table_check_expansion(&r->table, TEXT_ROWS, r->column) == DESCENT_OK) return DESCENT_OK;
  return status_set(DESCENT_ERROR_DATA,
                    "%s:%" PRId64 ": over %" PRId64 " columns in %" PRId64
                    " bytes of the file: it is damaged, or holds hardly any data (if it is packed, unpack it)",
                    r->path, r->line, r->column, r->table.stored);
}

static void buffer_cell(struct reader *r, const char *text, size_t length) {
  r->status = check_columns(r);
  if (r->status != DESCENT_OK) return;
  if (r->column >= MAX_COLUMNS)
    r->status = status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": more than %d columns", r->path, r->line, MAX_COLUMNS);
  else if (!text_list_add(r->has_first ? &r->second : &r->first, text, length, r->cell_line))
    r->status = status_set(DESCENT_ERROR_MEMORY, "%s:%" PRId64 ": out of memory for the first rows", r->path, r->line);
}

static void on_cell(void *text, size_t length, void *user) {
  struct reader *r = user;
  if (r->status == DESCENT_OK) {
    if (r->ready)
      add_cell(r, text, length);
    else
      buffer_cell(r, text, length);
  }
  r->column++;
  r->cell_line = r->line;
}

static void on_record(int terminator, void *user) {
  struct reader *r = user;
  (void)terminator;
  if (r->column > 0) { /* otherwise a blank line, or the second half of CR LF */
    if (r->ready)
      end_record(r);
    else if (r->status == DESCENT_OK && r->has_first)
      resolve_columns(r);
    r->has_first = true;
  }
  r->column = 0;
  r->between = true;
}

/* ---- lines ------------------------------------------------------------------------------------------------------ */

static descent_status line_error(const struct reader *r, int64_t line, const char *problem) {
  return status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": %s", r->path, line, problem);
}

static bool is_blank(const struct reader *r, char c) { return (c == ' ' || c == '\t') && c != r->delimiter; }

/* The next delimiter, or `end`. Searches eight bytes at a time, which is faster than memchr for short cells. */
static const char *cell_end(const struct reader *r, const char *text, const char *end) {
  const uint64_t ones = UINT64_C(0x0101010101010101), wanted = ones * (unsigned char)r->delimiter;
  for (uint64_t bytes; end - text >= 8; text += 8) {
    memcpy(&bytes, text, sizeof bytes);
    bytes ^= wanted;
    const uint64_t zeros = (bytes - ones) & ~bytes & ones << 7; /* lowest set bit: in the first zero byte */
    if (zeros) return text + __builtin_ctzll(zeros) / 8;
  }
  while (text < end && *text != r->delimiter) text++;
  return text;
}

/* Splits a record on a line without quotes, as libcsv does, but several times faster. */
static void split_line(struct reader *r, const char *text, size_t length) {
  const char *end = text + length;
  while (end > text && (end[-1] == '\n' || end[-1] == '\r')) end--;
  while (text < end && is_blank(r, *text)) text++;
  for (bool more = text < end; more;) {
    const char *const next = cell_end(r, text, end), *last = next;
    while (text < last && is_blank(r, *text)) text++;
    while (text < last && is_blank(r, last[-1])) last--;
    on_cell((void *)(uintptr_t)text, (size_t)(last - text), r);
    more = next < end;
    text = next + 1;
  }
  on_record('\n', r);
}

/* Parses text within one line; `whole`: it reaches the end of the line. */
static descent_status parse_piece(struct reader *r, const char *text, size_t length, bool whole) {
  if (memchr(text, 0, length))
    return line_error(r, r->line, "a NUL byte: this is not text, or it is UTF-16 (save the file as UTF-8)");
  const bool begins = r->between;
  if (begins) {
    r->record_line = r->cell_line = r->line;
    r->between = false;
  }
  if (begins && whole && !memchr(text, '"', length)) {
    split_line(r, text, length);
    return r->status;
  }
  const size_t parsed = csv_parse(&r->parser, text, length, on_cell, on_record, r);
  if (parsed != length && csv_error(&r->parser) != CSV_EPARSE)
    return status_set(DESCENT_ERROR_MEMORY, "%s:%" PRId64 ": %s", r->path, r->line,
                      csv_strerror(csv_error(&r->parser)));
  if (r->status != DESCENT_OK && (r->between || parsed != length)) return r->status;
  if (parsed != length)
    return line_error(r, r->line,
                      "a quote inside an unquoted cell (quote the whole cell, and double the quotes inside)");
  if (r->parser.entry_pos > MAX_CELL)
    return line_error(r, r->cell_line, "a cell of over 1 MiB starts here (is its closing quote missing?)");
  return DESCENT_OK;
}

/* Lines end in LF, CR LF or CR, also inside quotes. The next LF and CR are cached: in a file with one kind only,
 * searching for the other on each line would scan the whole chunk each time. */
static descent_status parse_chunk(struct reader *r, const char *text, size_t length) {
  const char *const end = text + length, *lf = NULL, *cr = NULL;
  descent_status status = DESCENT_OK;
  while (text < end) {
    if ((!lf || lf < text) && !(lf = memchr(text, '\n', (size_t)(end - text)))) lf = end;
    if ((!cr || cr < text) && !(cr = memchr(text, '\r', (size_t)(end - text)))) cr = end;
    const bool ends_before = r->after_cr && lf == text; /* CR and LF are in two chunks */
    const char *last = cr < lf ? cr : lf;
    if (last == cr && lf < end && cr + 1 == lf) last = lf;
    const bool whole = last < end;
    const char *const next = whole ? last + 1 : end;
    if (ends_before) r->line--;
    TRY(parse_piece(r, text, (size_t)(next - text), whole));
    if (whole) r->line++;
    r->after_cr = whole && *last == '\r';
    text = next;
  }
done:
  return status;
}

/* ---- the file --------------------------------------------------------------------------------------------------- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* The most frequent delimiter in the first line that is not blank, outside quotes; a comma when there is none. Commas
 * are decimal where another candidate separates something and all commas are between two digits, or where the options say so. */
static char detect_delimiter(const char *text, size_t length, char decimal) {
  static const char candidates[] = {',', ';', '\t', '|'};
  size_t counts[sizeof candidates] = {0}, best = 0, within = 0, others = 0, pending = 0;
  bool quoted = false, blank = true;
  for (size_t i = 0; i < length; i++) {
    const bool newline = text[i] == '\n' || text[i] == '\r';
    if (newline && !quoted && !blank) break;
    if (newline && !quoted) memset(counts, 0, sizeof counts), within = others = pending = 0;
    if (!newline && text[i] != ' ' && text[i] != '\t') blank = false, others += pending, pending = 0;
    if (text[i] == '"') quoted = !quoted;
    for (size_t c = 0; c < sizeof candidates; c++) counts[c] += !quoted && text[i] == candidates[c];
    pending += !quoted && text[i] != ',' && memchr(candidates, text[i], sizeof candidates); /* others: not at the end */
    within += !quoted && text[i] == ',' && i > 0 && i + 1 < length && is_digit(text[i - 1]) && is_digit(text[i + 1]);
  }
  if (decimal == ',' || (within == counts[0] && others)) counts[0] = 0;
  for (size_t c = 1; c < sizeof candidates; c++)
    if (counts[c] > counts[best]) best = c;
  return best == 0 && decimal == ',' ? ';' : candidates[best];
}

/* Skips the byte-order mark and determines the delimiter. */
static descent_status begin_text(struct reader *r, const char **text, size_t *length) {
  static const char utf8[] = "\xef\xbb\xbf", utf16_le[] = "\xff\xfe", utf16_be[] = "\xfe\xff";
  if (*length >= 2 && (memcmp(*text, utf16_le, 2) == 0 || memcmp(*text, utf16_be, 2) == 0))
    return line_error(r, 1, "this is UTF-16 text (save the file as UTF-8)");
  if (*length >= 3 && memcmp(*text, utf8, 3) == 0) *text += 3, *length -= 3;
  const descent_dataset_options *options = r->table.request.options;
  r->delimiter = options->delimiter ? options->delimiter : detect_delimiter(*text, *length, options->decimal);
  r->table.delimiter = r->delimiter;
  csv_set_delim(&r->parser, (unsigned char)r->delimiter);
  return DESCENT_OK;
}

static descent_status read_text(struct reader *r, struct stream *file) {
  descent_status status = DESCENT_OK;
  char *chunk = memory_allocate(CHUNK, 1, "the read buffer");
  if (!chunk) return DESCENT_ERROR_MEMORY;
  int64_t got;
  for (bool first = true;; first = false) {
    TRY(stream_read(file, chunk, CHUNK, &got));
    if (got == 0) break;
    const char *text = chunk;
    size_t length = (size_t)got;
    if (first) TRY(begin_text(r, &text, &length));
    TRY(parse_chunk(r, text, length));
    TRY(progress_report("reading", r->path, "bytes", stream_used(file), file->size > 0 ? file->size : 0));
  }
  if (csv_fini(&r->parser, on_cell, on_record, r) != 0 && r->status == DESCENT_OK)
    TRY(line_error(r, r->cell_line, "a quote opens here and is never closed (close it)"));
  if (r->has_first && !r->ready && r->status == DESCENT_OK) resolve_columns(r);
  TRY(r->status);
  if (r->records == 0)
    status = r->ready ? line_error(r, r->table.columns.line, "a header without rows below it (add rows)")
                      : status_set(DESCENT_ERROR_DATA, "%s: the file is empty", r->path);
done:
  free(chunk);
  return status;
}

static descent_status check_delimiter(char delimiter) {
  static const char impossible[] = "0123456789+-.eE\"\r\n";
  if (delimiter >= 0 && delimiter < 0x7f && (!delimiter || !strchr(impossible, delimiter))) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT,
                    "invalid delimiter 0x%02x: must be , ; tab or |, or another character that is not part of a number",
                    (unsigned char)delimiter);
}

descent_status csv_read(const char *path, const struct read_request *request, const struct table_blocks *blocks,
                        struct dataset_storage **storage) {
  struct reader r = {.path = path, .line = 1, .between = true};
  struct stream file = {0};
  descent_status status = check_delimiter(request->options->delimiter);
  if (status != DESCENT_OK) return status;
  if (csv_init(&r.parser, CSV_STRICT | CSV_STRICT_FINI | CSV_REPALL_NL))
    return status_set(DESCENT_ERROR_INTERNAL, "%s: cannot start the CSV parser", path);
  csv_set_blk_size(&r.parser, 1 << 12);
  TRY(stream_open(path, &file));
  r.path = file.path;
  r.file = &file;
  TRY(table_begin(&r.table, file.path, request, blocks));
  TRY(read_text(&r, &file));
  r.table.stored = stream_bytes(&file);
  TRY(table_finish(&r.table, storage));
done:
  stream_close(&file);
  csv_free(&r.parser);
  text_list_clear(&r.first);
  text_list_clear(&r.second);
  table_clear(&r.table);
  return status;
}
