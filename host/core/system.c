/* Limits read from /proc and /sys/fs/cgroup. Allocates nothing, since memory.c calls it before an allocation. */
#include "core/system.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, FOLDER_SIZE = 2 * PATH_SIZE, NAME_SIZE = 64 };

bool system_read_text(const char *path, char *text, size_t size) {
  size_t length = 0;
  ssize_t got = 0;
  const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return false;
  while (length < size - 1 &&
         ((got = read(descriptor, text + length, size - 1 - length)) > 0 || (got < 0 && errno == EINTR)))
    if (got > 0) length += (size_t)got;
  close(descriptor);
  text[length] = '\0';
  return got >= 0;
}

/* ---- control groups: lines "0::/path" or "4:memory:/path" of /proc/self/cgroup name folders of /sys/fs/cgroup ---- */

/* Whether `name` is in a list separated by commas. */
static bool list_contains(const char *list, const char *name) {
  for (const size_t length = strlen(name); *list; list += *list == ',') {
    const size_t item = strcspn(list, ",");
    if (item == length && strncmp(list, name, length) == 0) return true;
    list += item;
  }
  return false;
}

/* The path in a line for this controller, or NULL. Modifies the line. */
static const char *group_path(char *line, const char *controller) {
  char *controllers = strchr(line, ':');
  char *path = controllers ? strchr(controllers + 1, ':') : NULL;
  if (!path) return NULL;
  *path++ = '\0';
  controllers++;
  return (controller ? list_contains(controllers, controller) : !*controllers) && *path == '/' ? path : NULL;
}

/* Calls `visit` with the folder of this process's group and of each of its parents up to the root of the mount, which
 * is all that a container sees. `controller` names a controller of version 1, such as "memory"; NULL: version 2. */
static void for_each_group(const char *root, const char *controller, void (*visit)(void *user, const char *folder),
                           void *user) {
  char text[FOLDER_SIZE], folder[FOLDER_SIZE], *rest = text;
  const char *path = NULL;
  snprintf(folder, sizeof folder, "%s/proc/self/cgroup", root);
  if (!system_read_text(folder, text, sizeof text)) return;
  for (char *line; !path && (line = strsep(&rest, "\n"));) path = group_path(line, controller);
  if (!path) return;
  const int mount = snprintf(folder, sizeof folder, "%s/sys/fs/cgroup%s%s", root, controller ? "/" : "",
                             controller ? controller : "");
  if (mount < 0 || (size_t)mount + strlen(path) >= sizeof folder) return;
  strcpy(folder + mount, path);
  for (char *slash; (slash = strrchr(folder + mount, '/')); *slash = '\0')
    if (slash[1]) visit(user, folder);
  visit(user, folder);
}

/* ---- memory ---- */

/* The number after `key` at the start of a line; -1 if there is none. */
static int64_t number_after(const char *text, const char *key) {
  const size_t length = strlen(key);
  for (; text; text = strchr(text, '\n'), text += text != NULL) {
    int64_t number;
    if (strncmp(text, key, length) == 0) return sscanf(text + length, " %" SCNd64, &number) == 1 ? number : -1;
  }
  return -1;
}

static bool read_in(const char *folder, const char *name, char text[FOLDER_SIZE]) {
  char path[FOLDER_SIZE + NAME_SIZE];
  return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path &&
         system_read_text(path, text, FOLDER_SIZE);
}

static int64_t number_in(const char *folder, const char *name) {
  char text[FOLDER_SIZE];
  return read_in(folder, name, text) ? number_after(text, "") : -1; /* "max": none */
}

/* Lowers *least to the headroom of the group in `folder`; file names differ between the versions. */
static void lower_to_headroom(int64_t *least, const char *folder, const char *limit, const char *usage,
                              const char *stat_prefix) {
  static const char *const of_files[] = {"inactive_file ", "active_file "};
  char text[FOLDER_SIZE], key[64];
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

static void lower_to_headroom_1(void *least, const char *folder) {
  lower_to_headroom(least, folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_");
}

static void lower_to_headroom_2(void *least, const char *folder) {
  lower_to_headroom(least, folder, "memory.max", "memory.current", "");
}

int64_t system_memory_available(const char *root) {
  char folder[FOLDER_SIZE + NAME_SIZE], text[FOLDER_SIZE];
  int64_t least = INT64_MAX;
  snprintf(folder, sizeof folder, "%s/proc", root);
  const int64_t kilobytes = read_in(folder, "meminfo", text) ? number_after(text, "MemAvailable:") : -1;
  if (kilobytes >= 0 && kilobytes < INT64_MAX / 1024) least = kilobytes * 1024;
  for_each_group(root, NULL, lower_to_headroom_2, &least);
  for_each_group(root, "memory", lower_to_headroom_1, &least);
  return least;
}

/* ---- cores ---- */

/* Lowers a number of cores to the CPU quota of the group in `folder` (version 2), rounded up. */
static void lower_to_quota(void *user, const char *folder) {
  int *limit = user;
  char path[FOLDER_SIZE + NAME_SIZE], text[64];
  long long quota = 0, period = 0;
  if (snprintf(path, sizeof path, "%s/cpu.max", folder) >= (int)sizeof path) return;
  /* "max 100000" does not match: no limit */
  if (!system_read_text(path, text, sizeof text) || sscanf(text, "%lld %lld", &quota, &period) != 2) return;
  if (quota <= 0 || period <= 0) return;
  const long long cores = (quota - 1) / period + 1;
  if (cores < *limit) *limit = (int)cores;
}

int system_cores_allowed(void) {
  cpu_set_t set;
  const long cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
  return cores > 1 ? (int)cores : 1;
}

int system_cores_usable(void) {
  int cores = system_cores_allowed();
  for_each_group("", NULL, lower_to_quota, &cores);
  return cores;
}
