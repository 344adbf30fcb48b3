/* Runs a fuzz target over the files of its corpus, with any compiler, as a regression test. */
#include <dirent.h>
#include <string.h>

#include "fuzz.h"

enum { LARGEST = 1 << 20 };

static int replay(const char *path) {
  static uint8_t data[LARGEST];
  FILE *file = fopen(path, "rb");
  if (!file) return 1;
  const size_t size = fread(data, 1, sizeof data, file);
  fclose(file);
  uint8_t *exact = malloc(size ? size : 1); /* so that a sanitizer sees a byte read beyond the end */
  if (!exact) return 1;
  memcpy(exact, data, size);
  LLVMFuzzerTestOneInput(exact, size);
  free(exact);
  return 0;
}

int main(int argc, char **argv) {
  int replayed = 0;
  for (int i = 1; i < argc; i++) {
    DIR *folder = opendir(argv[i]);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
      char path[4096];
      if (entry->d_name[0] == '.') continue;
      snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
      if (replay(path)) {
        fprintf(stderr, "cannot read %s\n", path);
        return 1;
      }
      replayed++;
    }
    if (folder) closedir(folder);
  }
  printf("%d files\n", replayed);
  return replayed == 0;
}
