/* Allocation itself often succeeds far beyond what there is, and the process is killed on first touch: so one asks. */
#include "core/memory.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/cgroup.h"
#include "core/file.h"

enum { PATH_SIZE = 8500, TEXT_SIZE = 8192 };

/* The number that follows `key`, which stands at the beginning of a line; -1 if there is none. */
static int64_t number_after(const char *text, const char *key) {
  const size_t length = strlen(key);
  for (; text; text = strchr(text, '\n'), text += text != NULL) {
    int64_t number;
    if (strncmp(text, key, length) == 0) return sscanf(text + length, " %" SCNd64, &number) == 1 ? number : -1;
  }
  return -1;
}

static bool read_in(const char *folder, const char *name, char text[TEXT_SIZE]) {
  char path[PATH_SIZE];
  return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path && file_read_text(path, text, TEXT_SIZE);
}

static int64_t number_in(const char *folder, const char *name) {
  char text[TEXT_SIZE];
  return read_in(folder, name, text) ? number_after(text, "") : -1; /* "max": none */
}

/* What the group in `folder` leaves, by the names of one version's files. */
static void lower(int64_t *least, const char *folder, const char *limit, const char *usage, const char *stat_prefix) {
  static const char *const of_files[] = {"inactive_file ", "active_file "};
  char text[TEXT_SIZE], key[64];
  const int64_t most = number_in(folder, limit);
  int64_t used = number_in(folder, usage);
  if (most < 0 || used < 0) return;
  if (read_in(folder, "memory.stat", text))
    for (int i = 0; i < 2; i++) {
      snprintf(key, sizeof key, "%s%s", stat_prefix, of_files[i]);
      const int64_t pages = number_after(text, key);
      if (pages > 0) used -= pages < used ? pages : used;
    }
  const int64_t left = most > used ? most - used : 0;
  if (left < *least) *least = left;
}

static void lower_version1(void *least, const char *folder) {
  lower(least, folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_");
}

static void lower_version2(void *least, const char *folder) {
  lower(least, folder, "memory.max", "memory.current", "");
}

int64_t memory_available(const char *root) {
  char folder[PATH_SIZE], text[TEXT_SIZE];
  int64_t least = INT64_MAX;
  snprintf(folder, sizeof folder, "%s/proc", root);
  const int64_t kilobytes = read_in(folder, "meminfo", text) ? number_after(text, "MemAvailable:") : -1;
  if (kilobytes >= 0 && kilobytes < INT64_MAX / 1024) least = kilobytes * 1024;
  cgroup_each(root, NULL, lower_version2, &least);
  cgroup_each(root, "memory", lower_version1, &least);
  return least;
}
