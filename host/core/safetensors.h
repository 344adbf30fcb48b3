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

/* The texts in __metadata__ that mean something to us: what a model is, or a dataset, each as JSON, and checksums. */
enum safetensors_text {
  SAFETENSORS_MODEL,
  SAFETENSORS_MODEL_SUM, /* XXH64 of the text before and all tensors */
  SAFETENSORS_DATA,
  SAFETENSORS_DATA_SUM,   /* of the text before, y and weights */
  SAFETENSORS_X_SUM,      /* of X */
  SAFETENSORS_CHECKPOINT, /* what a training has come to, JSON; see train/checkpoint.h */
  SAFETENSORS_HEADER_SUM, /* of everything before the data, with zeros in the place of its 16 digits */
  SAFETENSORS_TEXTS
};

/* Tensors of a checkpoint that are not the model's begin with this. */
#define SAFETENSORS_CHECKPOINT_PREFIX "checkpoint."

/* 16 hexadecimal digits. */
struct safetensors_sum {
  char text[17];
};
struct safetensors_sum safetensors_sum_text(uint64_t sum);
/* Of `bytes` bytes at once. */
struct safetensors_sum safetensors_sum_of(const void *data, size_t bytes);
struct safetensors_tensor;
/* A model's: of its text and of every tensor's values in the order of the list. */
struct safetensors_sum safetensors_sum_model(const char *metadata, const struct safetensors_tensor *tensors, int64_t n);

/* A tensor of ours: where its values come from or go to. */
struct safetensors_tensor {
  char name[40];
  int rank; /* 1 or 2 */
  int64_t shape[SAFETENSORS_MAX_RANK];
  float *data;
};

int64_t safetensors_count(const struct safetensors_tensor *tensor); /* values */

/* Writes the file, through a temporary one beside it. `metadata` is JSON. ERROR_WRITE; also for a value that is not
 * finite and for metadata beyond json.h's limits, since the file could not be read back. */
descent_status safetensors_save(const char *path, const char *metadata, const struct safetensors_tensor *tensors,
                                int64_t n);

/* Writes texts and tensors as they are. Of the texts, those that are NULL are left out; the header's own sum is put in
 * where texts[SAFETENSORS_HEADER_SUM] is not NULL, whatever that is. ERROR_WRITE, ERROR_MEMORY. */
descent_status safetensors_write(const char *path, const char *const texts[SAFETENSORS_TEXTS],
                                 const struct safetensors_tensor *tensors, int64_t n);
struct file_writer;
/* The part of it before the data, for writers that bring the tensors' bytes themselves (their `data` is not looked at):
 * always of the same length where the texts and shapes are. */
descent_status safetensors_write_header(struct file_writer *writer, const char *path,
                                        const char *const texts[SAFETENSORS_TEXTS],
                                        const struct safetensors_tensor *tensors, int64_t n);

/* A tensor as the header describes it. */
struct safetensors_entry {
  const char *name;  /* borrowed from the file's header */
  const char *dtype; /* "F32", and in files of any kind also "F64", "F16" and "BF16" */
  int rank;
  int64_t shape[SAFETENSORS_MAX_RANK];
  int64_t begin, end; /* bytes from data_start */
  bool expected;      /* for safetensors_read */
};

struct safetensors {
  const char *path; /* borrowed */
  FILE *stream;
  struct stat about; /* when it was opened */
  cJSON *header;
  bool described;                       /* it has __metadata__ */
  const char *texts[SAFETENSORS_TEXTS]; /* borrowed from header; NULL where the file has none */
  struct safetensors_entry *entries;    /* (n) sorted by name, which is unique */
  int64_t n;
  int64_t data_start, data_bytes;
  struct safetensors_sum header_sum; /* "" where the header does not say what it should be */
  bool any;                          /* of any program */
};

/* Opens a file and checks all of its header: the entries cover the data exactly, without gap or overlap, and its own
 * checksum is right where it has one. ERROR_READ;
 * ERROR_MODEL with the byte offset or the tensor's name. On failure there is nothing to close. */
descent_status safetensors_open(const char *path, struct safetensors *file);
/* The same for files of other programs, whose tensors may have any of the types above. */
descent_status safetensors_open_any(const char *path, struct safetensors *file);
void safetensors_close(struct safetensors *file);

/* ERROR_MODEL when the file has a checksum of this name, and it is another one. */
descent_status safetensors_check_sum(const struct safetensors *file, enum safetensors_text key,
                                     struct safetensors_sum sum);

/* Reads the n tensors, which must be all that the file holds (but for what a checkpoint adds), with the same shapes and
 * finite values, into their data, and holds them and the metadata against the model's checksum if it has one.
 * ERROR_MODEL names the tensor. */
descent_status safetensors_read(struct safetensors *file, const struct safetensors_tensor *tensors, int64_t n);

/* The entry of a name; NULL when there is none. */
struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name);
/* The same, which must have the shape of `tensor`; ERROR_MODEL. Marks it as expected. */
descent_status safetensors_expect(const struct safetensors *file, const struct safetensors_tensor *tensor,
                                  struct safetensors_entry **found);
/* Reads an entry's values as float32, rounded where its type is wider; finite, or ERROR_MODEL. values: as many as its
 * shape says. */
descent_status safetensors_read_entry(struct safetensors *file, const struct safetensors_entry *entry, float *values);
/* Reads its bytes as they lie there. ERROR_READ. */
descent_status safetensors_read_bytes(struct safetensors *file, const struct safetensors_entry *entry, void *bytes);
/* The checksum of its bytes. ERROR_READ. */
descent_status safetensors_sum_entry(struct safetensors *file, const struct safetensors_entry *entry,
                                     struct safetensors_sum *sum);

#endif
