/* Datasets are read in blocks of rows that are whole chunks. References to other files are rejected. */
#ifdef DESCENT_HDF5_BUILT
#include "data/hdf5_file.h"

#include <errno.h>
#include <hdf5.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/memory.h"
#include "core/status.h"
#include "data/elements.h"
#include "data/matrix.h"
#include "data/text.h"

enum { X, WEIGHTS, TARGETS, PARTS };
enum { WINDOW = 4 << 20, MAX_WINDOW = 64 << 20 }; /* bytes of rows held */

struct hdf5_part {
  hid_t dataset; /* 0: absent */
  hid_t type;    /* of elements in memory */
  struct element_type element;
  int rank;
  hsize_t shape[H5S_MAX_RANK];
  int64_t rows, columns;
  char *window; /* rows [first, first + held) */
  int64_t capacity, first, held;
};

struct hdf5_file {
  const char *path; /* borrowed */
  hid_t file;
  struct hdf5_part parts[PARTS];
  int64_t next; /* row to read next */
};

/* ---- one dataset ------------------------------------------------------------------------------------------------ */

static descent_status part_error(const struct hdf5_file *h, const char *name, const char *problem) {
  char shown[64];
  text_escape(name, strlen(name), shown, sizeof shown);
  return status_set(DESCENT_ERROR_DATA, "%s: dataset '%s' %s", h->path, shown, problem);
}

/* Chooses the type in memory: 64 bits for integers, so that those beyond 2^53 are detected; double for floats; one byte
 * for h5py's bool, an enumeration. Returns as is_numeric does. */
static int choose_type(hid_t type, struct hdf5_part *part) {
  const H5T_class_t class = H5Tget_class(type);
  const size_t size = H5Tget_size(type);
  if (class == H5T_FLOAT && size <= 8) {
    part->type = H5Tcopy(H5T_NATIVE_DOUBLE);
    part->element = (struct element_type){ELEMENT_FLOAT, 8, __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__};
  } else if (class == H5T_INTEGER && size <= 8) {
    const bool is_signed = H5Tget_sign(type) != H5T_SGN_NONE;
    part->type = H5Tcopy(is_signed ? H5T_NATIVE_INT64 : H5T_NATIVE_UINT64);
    part->element =
        (struct element_type){is_signed ? ELEMENT_SIGNED : ELEMENT_UNSIGNED, 8, __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__};
  } else if (class == H5T_ENUM && size == 1) {
    part->type = H5Tcopy(type);
    part->element = (struct element_type){ELEMENT_BOOL, 1, false};
  }
  return part->type < 0 ? -1 : part->type > 0;
}

/* Whether the dataset holds numbers of rank 1 or more: 1 or 0, or -1 on an error. Fills in rank, shape and types. */
static int is_numeric(hid_t dataset, struct hdf5_part *part) {
  const hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
  int numeric = type > 0 && space > 0 ? H5Sget_simple_extent_type(space) == H5S_SIMPLE : -1;
  if (numeric == 1) {
    part->rank = H5Sget_simple_extent_ndims(space);
    numeric = part->rank < 0 ? -1 : part->rank > 0;
  }
  if (numeric == 1) numeric = choose_type(type, part);
  if (numeric == 1 && H5Sget_simple_extent_dims(space, part->shape, NULL) != part->rank) numeric = -1;
  if (space > 0) H5Sclose(space);
  if (type > 0) H5Tclose(type);
  return numeric;
}

static bool is_complex(hid_t type) {
  bool complex = H5Tget_nmembers(type) == 2;
  for (unsigned k = 0; complex && k < 2; k++) {
    char *name = H5Tget_member_name(type, k);
    complex = name && strcmp(name, k ? "i" : "r") == 0;
    H5free_memory(name);
  }
  return complex;
}

/* What a dataset holds for which is_numeric is 0. */
static const char *contents(hid_t dataset) {
  const hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
  const char *text = "other values than numbers";
  switch (type > 0 ? H5Tget_class(type) : H5T_NO_CLASS) {
    case H5T_STRING: text = "text"; break;
    case H5T_COMPOUND: text = is_complex(type) ? "complex numbers" : "records of several fields"; break;
    case H5T_VLEN: text = "lists of different lengths"; break;
    case H5T_REFERENCE: text = "references to other objects"; break;
    case H5T_ENUM: text = "an enumeration of more than 8 bits"; break;
    case H5T_INTEGER:
    case H5T_FLOAT:
      text = H5Tget_size(type) > 8                                       ? "larger numbers"
             : space > 0 && H5Sget_simple_extent_type(space) == H5S_NULL ? "nothing"
                                                                         : "a single number";
      break;
    default: break;
  }
  if (space > 0) H5Sclose(space);
  if (type > 0) H5Tclose(type);
  return text;
}

static void close_part(struct hdf5_part *part) {
  if (part->type > 0) H5Tclose(part->type);
  if (part->dataset > 0) H5Dclose(part->dataset);
  free(part->window);
  *part = (struct hdf5_part){0};
}

/* Whether the data are in another file: external storage, a virtual dataset, or a link. An untrusted file must not read
 * other files. */
static bool is_external(const struct hdf5_file *h, const struct hdf5_part *part, hid_t properties) {
  H5O_info_t file, dataset;
  return H5Pget_external_count(properties) != 0 || H5Pget_layout(properties) == H5D_VIRTUAL ||
         H5Oget_info(h->file, &file) < 0 || H5Oget_info(part->dataset, &dataset) < 0 || file.fileno != dataset.fileno;
}

static int64_t file_size(const struct hdf5_file *h) {
  hsize_t size = 0;
  return H5Fget_filesize(h->file, &size) < 0 || size > INT64_MAX ? 0 : (int64_t)size;
}

static descent_status check_shape(const struct hdf5_file *h, const char *name, struct hdf5_part *part) {
  /* Cells per stored byte beyond what deflate achieves: a dataset that was never written reads as zeros. */
  enum { MAX_RATIO = 1032 };
  int64_t cells;
  bool fits = part->shape[0] <= INT64_MAX;
  part->columns = 1;
  part->rows = (int64_t)part->shape[0];
  for (int d = 1; d < part->rank; d++)
    fits = fits && part->shape[d] <= INT64_MAX && size_product(part->columns, (int64_t)part->shape[d], &part->columns);
  if (!fits || !size_product(part->rows, part->columns, &cells)) return part_error(h, name, "is too large");
  if (cells == 0) return part_error(h, name, "has no elements");
  if (part->columns > MATRIX_MAX_COLUMNS) return part_error(h, name, "has more than 4194304 columns");
  /* The stated size of the storage may be wrong: not more than the file. */
  const uint64_t stored = H5Dget_storage_size(part->dataset), file = (uint64_t)file_size(h);
  if ((uint64_t)cells / MAX_RATIO > (stored < file ? stored : file))
    return part_error(h, name, "stores almost no data for its size (was it written?)");
  return DESCENT_OK;
}

/* The library holds a whole chunk in memory, whatever part of it is read. */
static descent_status check_chunk(const struct hdf5_file *h, const char *name, const struct hdf5_part *part,
                                  hid_t properties) {
  enum { CELLS = 1 << 26, CELLS_PER_BYTE = 1032 };
  hsize_t chunk[H5S_MAX_RANK];
  double cells = 1;
  if (H5Pget_layout(properties) != H5D_CHUNKED || H5Pget_chunk(properties, part->rank, chunk) != part->rank)
    return DESCENT_OK;
  for (int d = 0; d < part->rank; d++) cells *= (double)chunk[d];
  if (cells <= CELLS + (double)CELLS_PER_BYTE * (double)file_size(h)) return DESCENT_OK;
  return part_error(h, name, "has chunks that are too large for the file (choose smaller ones with h5repack -l)");
}

/* Whole chunks, so that none is decompressed twice, or a quarter of chunks that are too large, so that none is more than
 * four times. */
static descent_status prepare_window(struct hdf5_part *part, hid_t properties) {
  enum { MOST_TIMES = 4 };
  const int64_t row_bytes = part->columns * part->element.size;
  hsize_t chunk[H5S_MAX_RANK] = {1};
  int64_t rows = WINDOW / row_bytes;
  if (H5Pget_layout(properties) == H5D_CHUNKED) H5Pget_chunk(properties, part->rank, chunk);
  if (chunk[0] > 1 && chunk[0] <= (hsize_t)(MAX_WINDOW / row_bytes))
    rows = (rows / (int64_t)chunk[0] + 1) * (int64_t)chunk[0];
  else if (chunk[0] > 1)
    rows = (int64_t)((chunk[0] < (hsize_t)part->rows ? chunk[0] : (hsize_t)part->rows) / MOST_TIMES) + 1;
  part->capacity = rows < 1 ? 1 : rows < part->rows ? rows : part->rows;
  part->window = memory_allocate(part->capacity * row_bytes, 1, "rows");
  return part->window ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

/* Callback before HDF5 follows a link to another file. */
static herr_t refuse_link(const char *from, const char *group, const char *to, const char *name, unsigned *flags,
                          hid_t access, void *user) {
  (void)from, (void)group, (void)to, (void)name, (void)flags, (void)access, (void)user;
  return -1;
}

/* An access that does not leave the file; < 0 on failure. */
static hid_t stay_inside(hid_t class) {
  const hid_t access = H5Pcreate(class);
  if (access > 0 && H5Pset_elink_cb(access, refuse_link, NULL) >= 0) return access;
  if (access > 0) H5Pclose(access);
  return -1;
}

static hid_t open_inside(const struct hdf5_file *h, const char *name) {
  const hid_t access = stay_inside(H5P_DATASET_ACCESS);
  const hid_t dataset = access > 0 ? H5Dopen2(h->file, name, access) : -1;
  if (access > 0) H5Pclose(access);
  return dataset;
}

static bool is_group(const struct hdf5_file *h, const char *name) {
  H5O_info_t about;
  const hid_t access = stay_inside(H5P_LINK_ACCESS);
  const bool group =
      access > 0 && H5Oget_info_by_name(h->file, name, &about, access) >= 0 && about.type == H5O_TYPE_GROUP;
  if (access > 0) H5Pclose(access);
  return group;
}

static descent_status open_part(struct hdf5_file *h, const char *name, struct hdf5_part *part) {
  hid_t properties = -1;
  descent_status status;
  part->dataset = open_inside(h, name);
  if (part->dataset <= 0) {
    part->dataset = 0;
    if (is_group(h, name)) {
      char shown[64];
      text_escape(name, strlen(name), shown, sizeof shown);
      TRY(status_set(DESCENT_ERROR_DATA, "%s: '%s' is a group, not a dataset (select one inside it with %s:%s/NAME)",
                     h->path, shown, h->path, shown));
    }
    TRY(part_error(h, name,
                   "does not exist, is in another file, or cannot be opened (list the datasets with h5ls -r)"));
  }
  properties = H5Dget_create_plist(part->dataset);
  if (properties < 0) TRY(part_error(h, name, "cannot be opened"));
  if (is_external(h, part, properties))
    TRY(part_error(h, name, "is in another file, which is not followed (copy it into this file with h5copy)"));
  const int numeric = is_numeric(part->dataset, part);
  if (numeric < 0) TRY(part_error(h, name, "cannot be inspected: it is damaged (copy the file again)"));
  if (!numeric) {
    char problem[400];
    snprintf(problem, sizeof problem,
             "is not an array of numbers of at most 64 bits: it holds %s (store it as numbers, or select another "
             "dataset with %.200s:NAME)",
             contents(part->dataset), h->path);
    TRY(part_error(h, name, problem));
  }
  TRY(check_shape(h, name, part));
  TRY(check_chunk(h, name, part, properties));
  TRY(prepare_window(part, properties));
done:
  if (properties > 0) H5Pclose(properties);
  return status;
}

static descent_status fill_window(const struct hdf5_file *h, struct hdf5_part *part) {
  hsize_t start[H5S_MAX_RANK] = {(hsize_t)h->next}, count[H5S_MAX_RANK];
  const int64_t left = part->rows - h->next, n = left < part->capacity ? left : part->capacity;
  memcpy(count, part->shape, sizeof count);
  count[0] = (hsize_t)n;
  const hid_t in_file = H5Dget_space(part->dataset), in_memory = H5Screate_simple(part->rank, count, NULL);
  const bool read = in_file > 0 && in_memory > 0 &&
                    H5Sselect_hyperslab(in_file, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                    H5Dread(part->dataset, part->type, in_memory, in_file, H5P_DEFAULT, part->window) >= 0;
  if (in_memory > 0) H5Sclose(in_memory);
  if (in_file > 0) H5Sclose(in_file);
  part->first = h->next;
  part->held = n;
  if (read) return DESCENT_OK;
  return status_set(DESCENT_ERROR_DATA,
                    "%s: rows %" PRId64 " to %" PRId64
                    " (from 0) cannot be read: damaged, or compressed by a filter that this HDF5 library lacks (copy "
                    "the file again, or run h5repack -f NONE)",
                    h->path, h->next, h->next + n - 1);
}

/* ---- choice of datasets ----------------------------------------------------------------------------------------- */

/* The number of numeric datasets, and their names as far as they fit. */
struct dataset_list {
  char names[400], only[256], damaged[256]; /* damaged: one that cannot be inspected */
  int64_t n, listed;
};

static herr_t list_dataset(hid_t root, const char *name, const H5O_info_t *about, void *user) {
  enum { MAX_LISTED = 1000 };
  struct dataset_list *listing = user;
  struct hdf5_part part = {0};
  if (about->type != H5O_TYPE_DATASET) return 0;
  part.dataset = H5Dopen2(root, name, H5P_DEFAULT);
  const int numeric = part.dataset > 0 ? is_numeric(part.dataset, &part) : -1;
  if (numeric < 0) snprintf(listing->damaged, sizeof listing->damaged, "%s", name);
  if (numeric > 0) {
    if (listing->n++ == 0) snprintf(listing->only, sizeof listing->only, "%s", name);
    if (listing->n == listing->listed + 1)
      listing->listed += text_append_quoted(listing->names, sizeof listing->names, name);
  }
  close_part(&part);
  return numeric < 0 || listing->n > MAX_LISTED;
}

/* The first of the names that exists in the root group, or NULL. */
static const char *find_first_of(const struct hdf5_file *h, const char *const *names) {
  for (; *names; names++)
    if (H5Lexists(h->file, *names, H5P_DEFAULT) > 0) return *names;
  return NULL;
}

/* Whether `dataset` is this name or inside the group of this name. */
static bool is_within(const char *name, const char *dataset) {
  const size_t length = strlen(name);
  return strncmp(dataset, name, length) == 0 && (!dataset[length] || dataset[length] == '/');
}

static descent_status open_default(struct hdf5_file *h) {
  static const char *const names[PARTS][5] = {[X] = {"X", "x", "data"},
                                              [WEIGHTS] = {"weights", "sample_weight", "w"},
                                              [TARGETS] = {"y", "labels", "target", "targets"}};
  struct dataset_list listing = {0};
  descent_status status = DESCENT_OK;
  H5Ovisit(h->file, H5_INDEX_NAME, H5_ITER_NATIVE, list_dataset, &listing);
  if (*listing.damaged)
    return part_error(h, listing.damaged, "cannot be inspected: it is damaged (copy the file again)");
  const char *found[PARTS];
  bool alone = listing.n == 1; /* no object that holds no numbers has one of the names */
  for (int k = 0; k < PARTS; k++) {
    found[k] = find_first_of(h, names[k]);
    alone = alone && (!found[k] || is_within(found[k], listing.only));
  }
  if (alone) return open_part(h, listing.only, &h->parts[X]);
  for (int k = 0; k < PARTS; k++)
    if (found[k] && (found[X] || listing.n < 2)) TRY(open_part(h, found[k], &h->parts[k]));
  if (listing.n == 0) return status_set(DESCENT_ERROR_DATA, "%s: the file has no dataset of numbers", h->path);
  if (!found[X])
    return status_set(DESCENT_ERROR_DATA,
                      "%s: several datasets, none named X, x or data: %s%s (select one with %s:NAME)", h->path,
                      listing.names, listing.listed < listing.n ? ", ..." : "", h->path);
done:
  return status;
}

struct unread_search {
  const struct hdf5_file *h;
  struct unread_parts unread;
};

static herr_t add_unread(hid_t root, const char *name, const H5O_info_t *about, void *user) {
  enum { MAX_LISTED = 1000 };
  struct unread_search *search = user;
  H5O_info_t part;
  (void)root;
  if (about->type != H5O_TYPE_DATASET) return 0;
  for (int k = 0; k < PARTS; k++) { /* a dataset may have several names */
    const hid_t dataset = search->h->parts[k].dataset;
    if (dataset > 0 && H5Oget_info(dataset, &part) >= 0 && part.addr == about->addr) return 0;
  }
  matrix_add_unread(&search->unread, name);
  return search->unread.n > MAX_LISTED;
}

static void note_unread(const struct hdf5_file *h, char note[NOTE_SIZE]) {
  struct unread_search search = {.h = h};
  H5Ovisit(h->file, H5_INDEX_NAME, H5_ITER_NATIVE, add_unread, &search);
  matrix_note_unread(&search.unread, note);
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

/* Reads the rows that are in the windows of all parts. */
descent_status hdf5_file_read(struct hdf5_file *h, int64_t most, double *cells, int64_t *rows, int64_t *inexact) {
  int64_t n = most, columns = 0;
  descent_status status = DESCENT_OK;
  for (int k = 0; k < PARTS; k++) {
    struct hdf5_part *part = &h->parts[k];
    if (!part->dataset) continue;
    if (h->next >= part->first + part->held) TRY(fill_window(h, part));
    const int64_t left = part->first + part->held - h->next;
    if (left < n) n = left;
    columns += part->columns;
  }
  for (int k = 0; k < PARTS; k++) {
    const struct hdf5_part *part = &h->parts[k];
    if (!part->dataset) continue;
    const char *raw = part->window + (h->next - part->first) * part->columns * part->element.size;
    *inexact += elements_to_double(part->element, raw, n, part->columns, cells, columns);
    cells += part->columns;
  }
  h->next += n;
  *rows = n;
done:
  return status;
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static descent_status describe(const struct hdf5_file *h, struct hdf5_shape *shape) {
  const struct hdf5_part *parts = h->parts;
  *shape = (struct hdf5_shape){.rows = parts[X].rows,
                               .weights = parts[WEIGHTS].columns,
                               .targets = parts[TARGETS].columns,
                               .stored = file_size(h)};
  for (int k = 0; k < PARTS; k++) {
    if (!parts[k].dataset) continue;
    shape->columns += parts[k].columns;
    if (parts[k].rows != shape->rows)
      return status_set(DESCENT_ERROR_DATA, "%s: the %s have %" PRId64 " rows, but the inputs have %" PRId64, h->path,
                        k == WEIGHTS ? "weights" : "targets", parts[k].rows, shape->rows);
  }
  if (shape->weights > 1)
    return status_set(DESCENT_ERROR_DATA, "%s: the weights have %" PRId64 " columns, not 1", h->path, shape->weights);
  if (shape->columns > MATRIX_MAX_COLUMNS)
    return status_set(DESCENT_ERROR_DATA, "%s: %" PRId64 " columns exceed the maximum of %d", h->path, shape->columns,
                      MATRIX_MAX_COLUMNS);
  return DESCENT_OK;
}

descent_status hdf5_file_open(const char *path, const char *part, struct hdf5_shape *shape, struct hdf5_file **file) {
  descent_status status;
  struct hdf5_file *h = memory_allocate(1, sizeof *h, "the reader");
  if (!h) return DESCENT_ERROR_MEMORY;
  h->path = path;
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  if (access(path, R_OK) != 0) TRY(status_cannot_read(path, errno));
  h->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  if (h->file <= 0)
    TRY(status_set(DESCENT_ERROR_DATA, "%s: not an HDF5 file, damaged, or open for writing elsewhere", path));
  TRY(part ? open_part(h, part, &h->parts[X]) : open_default(h));
  TRY(describe(h, shape));
  if (!part) note_unread(h, shape->note);
  *file = h;
  h = NULL;
done:
  hdf5_file_close(h);
  return status;
}

void hdf5_file_close(struct hdf5_file *h) {
  if (!h) return;
  for (int k = 0; k < PARTS; k++) close_part(&h->parts[k]);
  if (h->file > 0) H5Fclose(h->file);
  free(h);
}
#endif
