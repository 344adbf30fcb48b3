/* The container of model and data files: named float32 matrices and texts of metadata.
 *
 *   8 bytes          N, little-endian: the length of the header
 *   N bytes          JSON {"__metadata__": {"format": "pt", "descent": TEXT, "descent.xxh64": HEX, ..},
 *                    NAME: {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, ..}, padded with blanks so
 *                    that the data starts at a multiple of 64
 *   the rest         the tensors' bytes, little-endian, row-major, without gaps; offsets count from here
 *
 * https://github.com/huggingface/safetensors */
#ifndef DESCENT_CORE_SAFETENSORS_H
#define DESCENT_CORE_SAFETENSORS_H

#include <cjson/cJSON.h>
#include <descent/descent.h>
#include <stdio.h>
#include <sys/stat.h>

enum { SAFETENSORS_MAX_RANK = 2 };

/* The entries of __metadata__ that Descent uses: descriptions of a model, dataset or checkpoint as JSON, and
 * checksums. */
enum safetensors_text {
  SAFETENSORS_MODEL,
  SAFETENSORS_MODEL_SUM, /* XXH64 of the model's text and all tensors */
  SAFETENSORS_DATA,
  SAFETENSORS_DATA_SUM,   /* of the dataset's text, y and weights */
  SAFETENSORS_X_SUM,      /* of X */
  SAFETENSORS_CHECKPOINT, /* state of a training; see checkpoint/checkpoint.h */
  SAFETENSORS_HEADER_SUM, /* of all bytes before the data, its own 16 digits being zeros */
  SAFETENSORS_TEXTS
};

/* Prefix of the tensors that a checkpoint has beside the model's. */
#define SAFETENSORS_CHECKPOINT_PREFIX "checkpoint."

/* A checksum as 16 hexadecimal digits. */
struct safetensors_sum {
  char text[17];
};
struct safetensors_sum safetensors_sum_text(uint64_t sum);
/* XXH64 of `bytes` bytes. */
struct safetensors_sum safetensors_sum_of(const void *data, size_t bytes);
struct safetensors_tensor;
/* A model's checksum: of its text, then of the tensors' values in the order of the list. */
struct safetensors_sum safetensors_sum_model(const char *metadata, const struct safetensors_tensor *tensors, int64_t n);

/* A tensor in memory, to write or to read into. */
struct safetensors_tensor {
  char name[64];
  int rank; /* 1 or 2 */
  int64_t shape[SAFETENSORS_MAX_RANK];
  float *data;
};

int64_t safetensors_count(const struct safetensors_tensor *tensor); /* values */

/* Writes a model file atomically. `metadata` is JSON. ERROR_WRITE, also for values that are not finite and for metadata
 * beyond json.h's limits, since the file could not be read back. */
descent_status safetensors_save(const char *path, const char *metadata, const struct safetensors_tensor *tensors,
                                int64_t n);

/* The same into `data`, of `capacity` bytes, unless that is NULL; `*size` is what the file takes. ERROR_ARGUMENT where
 * that is more than `capacity`. `what` stands for the path in errors. */
descent_status safetensors_save_memory(const char *what, const char *metadata, const struct safetensors_tensor *tensors,
                                       int64_t n, void *data, size_t capacity, size_t *size);

/* Writes texts and tensors unchecked. NULL texts are omitted. The header's checksum is computed and included when
 * texts[SAFETENSORS_HEADER_SUM] is not NULL; that text itself is ignored. ERROR_WRITE, ERROR_MEMORY. */
descent_status safetensors_write(const char *path, const char *const texts[SAFETENSORS_TEXTS],
                                 const struct safetensors_tensor *tensors, int64_t n);
struct file_writer;
/* The same into an open file, to be committed by the caller. */
descent_status safetensors_write_to(struct file_writer *writer, const char *const texts[SAFETENSORS_TEXTS],
                                    const struct safetensors_tensor *tensors, int64_t n);
/* Writes the part before the data, for callers that write the tensors' bytes themselves; tensors' `data` is ignored.
 * Its length depends only on the lengths of the texts and on the shapes. */
descent_status safetensors_write_header(struct file_writer *writer, const char *path,
                                        const char *const texts[SAFETENSORS_TEXTS],
                                        const struct safetensors_tensor *tensors, int64_t n);

/* A tensor as described by the header. */
struct safetensors_entry {
  const char *name;  /* borrowed from the file's header */
  const char *dtype; /* "F32"; after safetensors_open_any also "F64", "F16" and "BF16" */
  int rank;
  int64_t shape[SAFETENSORS_MAX_RANK];
  int64_t begin, end; /* bytes from data_start */
  bool expected;      /* set by safetensors_expect, checked by safetensors_read */
};

struct safetensors {
  const char *path; /* borrowed */
  FILE *stream;
  struct stat about; /* at the time of opening */
  cJSON *header;
  bool described;                       /* it has __metadata__ */
  const char *texts[SAFETENSORS_TEXTS]; /* borrowed from header; NULL where the file has none */
  struct safetensors_entry *entries;    /* (n) sorted by name, which is unique */
  int64_t n;
  int64_t data_start, data_bytes;
  struct safetensors_sum header_sum; /* computed; "" when the header states none */
  bool any;                          /* opened by safetensors_open_any */
};

/* Opens a file and checks all of its header: the entries cover the data exactly, without gap or overlap, and the
 * header's checksum matches if it has one. ERROR_READ; ERROR_MODEL with the byte offset or the tensor's name. On
 * failure there is nothing to close. */
descent_status safetensors_open(const char *path, struct safetensors *file);
/* The same for files of other programs, whose tensors may have any of the four types. */
descent_status safetensors_open_any(const char *path, struct safetensors *file);
/* The same for a file's bytes in memory, borrowed until the file is closed; `what` stands for the path. */
descent_status safetensors_open_memory(const char *what, const void *data, size_t size, struct safetensors *file);
void safetensors_close(struct safetensors *file);

/* ERROR_MODEL when the file states another checksum under this key. OK when it states none. */
descent_status safetensors_check_sum(const struct safetensors *file, enum safetensors_text key,
                                     struct safetensors_sum sum);

/* Reads the n tensors, which must be all tensors of the file (except those of a checkpoint), of the same shapes and
 * with finite values, and verifies the model's checksum if there is one. ERROR_MODEL names the tensor. */
descent_status safetensors_read(struct safetensors *file, const struct safetensors_tensor *tensors, int64_t n);

/* The entry of this name, or NULL. */
struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name);
/* The entry of `tensor`, which must exist with its shape; ERROR_MODEL. Marks it as expected. */
descent_status safetensors_expect(const struct safetensors *file, const struct safetensors_tensor *tensor,
                                  struct safetensors_entry **found);
/* Reads an entry's values as float32, rounded when its type is wider. ERROR_MODEL for values that are not finite. */
descent_status safetensors_read_entry(struct safetensors *file, const struct safetensors_entry *entry, float *values);
/* Reads its raw bytes. ERROR_READ. */
descent_status safetensors_read_bytes(struct safetensors *file, const struct safetensors_entry *entry, void *bytes);
/* The checksum of its bytes. ERROR_READ. */
descent_status safetensors_sum_entry(struct safetensors *file, const struct safetensors_entry *entry,
                                     struct safetensors_sum *sum);

#endif
