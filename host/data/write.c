/* Saving a dataset in the format that the file's extension selects. */
#include "data/write.h"

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

descent_status descent_dataset_save(const descent_dataset *dataset, const char *path) {
  static const struct {
    const char *ending;
    descent_status (*write)(const descent_dataset *dataset, const char *path);
  } writers[] = {{".csv", write_csv},           {".tsv", write_csv},           {".npy", write_npy},
                 {".npz", write_npz},           {".idx", write_idx},           {".svm", write_svmlight},
                 {".svmlight", write_svmlight}, {".libsvm", write_svmlight},   {".h5", write_hdf5},
                 {".hdf5", write_hdf5},         {".safetensors", write_binary}};
  if (!dataset || !path) return status_set(DESCENT_ERROR_ARGUMENT, "a dataset and an output path are needed");
  const size_t length = strlen(path);
  for (size_t i = 0; i < sizeof writers / sizeof *writers; i++) {
    const size_t n = strlen(writers[i].ending);
    if (length <= n || strcasecmp(path + length - n, writers[i].ending) != 0) continue;
    const descent_status status = check_mapped(dataset->storage, path);
    return status == DESCENT_OK ? writers[i].write(dataset, path) : status;
  }
  return status_set(DESCENT_ERROR_ARGUMENT,
                    "%s: unknown extension (known: .csv, .tsv, .npy, .npz, .idx, .svm, .svmlight, .libsvm, .h5, .hdf5, "
                    ".safetensors)",
                    path);
}
