/* Saving a dataset in the format that the file's extension selects. */
#include "data/write.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/safetensors.h"
#include "core/status.h"

/* Verifies the checksum of mapped data, which were not read when the file was opened: a copy reads all of them
 * anyway. */
static descent_status check_mapped(const struct dataset_storage *s, const char *path) {
  if (!*s->X_sum) return DESCENT_OK;
  const struct safetensors_sum sum = safetensors_sum_of(s->X, (size_t)s->rows * (size_t)s->inputs * sizeof *s->X);
  if (strcmp(sum.text, s->X_sum) == 0) return DESCENT_OK;
  return status_set(DESCENT_ERROR_DATA,
                    "%s: not written: the mapped X was altered since it was saved: its checksum is %s, not %s", path,
                    sum.text, s->X_sum);
}

struct format_writer {
  const char *ending;
  descent_status (*write)(const descent_dataset *dataset, const char *path);
};

/* Calls the writer, of n, that the extension selects. */
static descent_status save(const descent_dataset *dataset, const char *path, const struct format_writer *writers,
                           size_t n) {
  char known[128] = "";
  descent_status status;
  TRY(handle_check(dataset, HANDLE_DATASET, "dataset"));
  TRY(argument_check(path, "path"));
  const size_t length = strlen(path);
  for (size_t i = 0; i < n; i++) {
    const size_t ending = strlen(writers[i].ending);
    snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", writers[i].ending);
    if (length <= ending || strcasecmp(path + length - ending, writers[i].ending) != 0) continue;
    TRY(check_mapped(dataset->storage, path));
    return writers[i].write(dataset, path);
  }
  status = status_set(DESCENT_ERROR_ARGUMENT, "%s: unknown extension (known: %s)", path, known);
done:
  return status;
}

descent_status descent_dataset_save(const descent_dataset *dataset, const char *path) {
  static const struct format_writer writers[] = {
      {".csv", write_csv}, {".tsv", write_csv},      {".npy", write_npy},           {".npz", write_npz},
      {".idx", write_idx}, {".svm", write_svmlight}, {".svmlight", write_svmlight}, {".libsvm", write_svmlight},
      {".h5", write_hdf5}, {".hdf5", write_hdf5},    {".safetensors", write_binary}};
  return save(dataset, path, writers, sizeof writers / sizeof *writers);
}

descent_status descent_dataset_save_guarded(const descent_dataset *dataset, const char *path) {
  static const struct format_writer writers[] = {{".csv", write_csv_guarded}, {".tsv", write_csv_guarded}};
  return save(dataset, path, writers, sizeof writers / sizeof *writers);
}
