/* The file name determines the format; the content is read only when the name does not. */
#include "data/format.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/number.h"
#include "core/status.h"
#include "data/stream.h"

static bool has_suffix(const char *path, size_t length, const char *ending) {
  const size_t n = strlen(ending);
  return length > n && strncasecmp(path + length - n, ending, n) == 0;
}

/* ---- by name ---------------------------------------------------------------------------------------------------- */

static bool from_extension(const char *path, enum file_format *format) {
  static const struct {
    const char *ending;
    enum file_format format;
  } endings[] = {{".csv", FORMAT_CSV},         {".tsv", FORMAT_CSV},
                 {".txt", FORMAT_CSV},         {".data", FORMAT_CSV},
                 {".npy", FORMAT_NPY},         {".npz", FORMAT_NPZ},
                 {".idx", FORMAT_IDX},         {".idx1", FORMAT_IDX},
                 {".idx3", FORMAT_IDX},        {"-ubyte", FORMAT_IDX},
                 {".svm", FORMAT_SVMLIGHT},    {".svmlight", FORMAT_SVMLIGHT},
                 {".libsvm", FORMAT_SVMLIGHT}, {".h5", FORMAT_HDF5},
                 {".hdf5", FORMAT_HDF5},       {".safetensors", FORMAT_SAFETENSORS}};
  size_t length = strlen(path);
  if (has_suffix(path, length, ".gz")) length -= strlen(".gz");
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
    if (has_suffix(path, length, endings[i].ending)) {
      *format = endings[i].format;
      return true;
    }
  return false;
}

static descent_status parse_format(const char *wanted, struct file_choice *choice) {
  static const struct {
    const char *name;
    enum file_format format;
    int base;
  } names[] = {{"csv", FORMAT_CSV, -1},
               {"npy", FORMAT_NPY, -1},
               {"npz", FORMAT_NPZ, -1},
               {"idx", FORMAT_IDX, -1},
               {"svmlight", FORMAT_SVMLIGHT, -1},
               {"svmlight:0", FORMAT_SVMLIGHT, 0},
               {"svmlight:1", FORMAT_SVMLIGHT, 1},
               {"hdf5", FORMAT_HDF5, -1},
               {"safetensors", FORMAT_SAFETENSORS, -1}};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(wanted, names[i].name) == 0) {
      choice->format = names[i].format;
      choice->base = names[i].base;
      return DESCENT_OK;
    }
  return status_set(
      DESCENT_ERROR_ARGUMENT,
      "unknown format '%.40s' (known: csv, npy, npz, idx, svmlight, hdf5, safetensors; svmlight:0 and svmlight:1 state "
      "the first index)",
      wanted);
}

/* ---- by content ------------------------------------------------------------------------------------------------- */

/* Whether the first line starts with a label, or label:weight, and index:value: "1 3:0.5", "1:2 3:0.5". */
static bool looks_like_svmlight(const char *text, size_t length) {
  const char *const end = text + length;
  double number;
  while (text < end && (*text == '#' || isspace((unsigned char)*text))) { /* comments and blank lines */
    const char *const newline = *text == '#' ? memchr(text, '\n', (size_t)(end - text)) : text;
    text = newline ? newline + 1 : end;
  }
  const char *blank = text;
  while (blank < end && !isspace((unsigned char)*blank)) blank++;
  const char *const colon = memchr(text, ':', (size_t)(blank - text));
  if (!number_parse(text, (size_t)((colon ? colon : blank) - text), &number)) return false;
  if (colon && !number_parse(colon + 1, (size_t)(blank - colon - 1), &number)) return false;
  while (blank < end && (*blank == ' ' || *blank == '\t')) blank++;
  const char *p = blank;
  while (p < end && isdigit((unsigned char)*p)) p++;
  if (p == blank && end - p >= 3 && memcmp(p, "qid", 3) == 0) p += 3;
  return p > blank && p < end && *p == ':';
}

static enum file_format from_bytes(const char *bytes, size_t length) {
  if (length >= 6 && memcmp(bytes, "\x93NUMPY", 6) == 0) return FORMAT_NPY;
  if (length >= 4 && (memcmp(bytes, "PK\3\4", 4) == 0 || memcmp(bytes, "PK\5\6", 4) == 0)) return FORMAT_NPZ;
  if (length >= 8 && memcmp(bytes, "\x89HDF\r\n\x1a\n", 8) == 0) return FORMAT_HDF5;
  if (length >= 4 && !bytes[0] && !bytes[1] && bytes[2] >= 8 && bytes[2] <= 14 && bytes[3] > 0) return FORMAT_IDX;
  if (length >= 10 && !memcmp(bytes + 4, "\0\0\0\0{\"", 6)) return FORMAT_SAFETENSORS;
  return looks_like_svmlight(bytes, length) ? FORMAT_SVMLIGHT : FORMAT_CSV;
}

/* CSV when the file cannot be opened or read twice: the CSV reader then reports the error. */
static enum file_format from_content(const char *path) {
  struct stat about;
  struct stream stream = {0};
  char bytes[4096];
  int64_t got = 0;
  enum file_format format = FORMAT_CSV;
  if (stat(path, &about) != 0 || !S_ISREG(about.st_mode)) return format;
  if (stream_open(path, &stream) == DESCENT_OK && stream_read(&stream, bytes, sizeof bytes, &got) == DESCENT_OK)
    format = from_bytes(bytes, (size_t)got);
  stream_close(&stream);
  return format;
}

/* ---- parts ------------------------------------------------------------------------------------------------------ */

/* Cuts off and returns the part: the text after the first colon that follows the name of an existing file. */
static const char *split_part(char *path) {
  if (access(path, F_OK) == 0) return NULL;
  for (char *colon = strchr(path, ':'); colon; colon = strchr(colon + 1, ':')) {
    *colon = 0;
    if (colon > path && access(path, F_OK) == 0) return colon + 1;
    *colon = ':';
  }
  return NULL;
}

descent_status format_choose(const char *path, const char *wanted, struct file_choice *choice) {
  descent_status status = DESCENT_OK;
  *choice = (struct file_choice){.path = strdup(path), .base = -1};
  if (!choice->path) return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory", path);
  if (strcmp(path, "-") != 0) choice->part = split_part(choice->path);
  if (wanted)
    TRY(parse_format(wanted, choice));
  else if (!from_extension(choice->path, &choice->format))
    choice->format = from_content(choice->path);
  if (choice->part && choice->format != FORMAT_NPZ && choice->format != FORMAT_HDF5)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "%s: cannot select part '%.40s': only npz and HDF5 files have parts",
                   choice->path, choice->part));
done:
  if (status != DESCENT_OK) format_clear(choice);
  return status;
}

void format_clear(struct file_choice *choice) {
  free(choice->path);
  *choice = (struct file_choice){0};
}
