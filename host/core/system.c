/* What the kernel says about limits, from /proc and /sys/fs/cgroup. Takes no memory: the answers decide whether more is
 * allocated. */
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

/* ---- control groups: "0::/path" or "4:memory:/path" a line of /proc/self/cgroup, to folders of /sys/fs/cgroup ---- */

/* Is `name` one of those between commas? */
static bool listed(const char *list, const char *name) {
  for (const size_t length = strlen(name); *list; list += *list == ',') {
    const size_t item = strcspn(list, ",");
    if (item == length && strncmp(list, name, length) == 0) return true;
    list += item;
  }
  return false;
}

/* The path in a line without its end, if it is of the controller. */
static const char *path_of(char *line, const char *controller) {
  char *controllers = strchr(line, ':');
  char *path = controllers ? strchr(controllers + 1, ':') : NULL;
  if (!path) return NULL;
  *path++ = '\0';
  controllers++;
  return (controller ? listed(controllers, controller) : !*controllers) && *path == '/' ? path : NULL;
}

/* Calls `visit` with the folder of this process's group and of each that holds it, up to the mount's own root, which is
 * what a container sees. `controller` is that of version 1, "memory" say; NULL: version 2. */
static void each_group(const char *root, const char *controller, void (*visit)(void *user, const char *folder),
                       void *user) {
  char text[FOLDER_SIZE], folder[FOLDER_SIZE], *rest = text;
  const char *path = NULL;
  snprintf(folder, sizeof folder, "%s/proc/self/cgroup", root);
  if (!system_read_text(folder, text, sizeof text)) return;
  for (char *line; !path && (line = strsep(&rest, "\n"));) path = path_of(line, controller);
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

/* The number that follows `key`, which stands at the beginning of a line; -1 if there is none. */
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

/* What the group in `folder` leaves, by the names of one version's files. */
static void lower(int64_t *least, const char *folder, const char *limit, const char *usage, const char *stat_prefix) {
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

static void lower_version1(void *least, const char *folder) {
  lower(least, folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_");
}

static void lower_version2(void *least, const char *folder) {
  lower(least, folder, "memory.max", "memory.current", "");
}

int64_t system_memory_available(const char *root) {
  char folder[FOLDER_SIZE + NAME_SIZE], text[FOLDER_SIZE];
  int64_t least = INT64_MAX;
  snprintf(folder, sizeof folder, "%s/proc", root);
  const int64_t kilobytes = read_in(folder, "meminfo", text) ? number_after(text, "MemAvailable:") : -1;
  if (kilobytes >= 0 && kilobytes < INT64_MAX / 1024) least = kilobytes * 1024;
  each_group(root, NULL, lower_version2, &least);
  each_group(root, "memory", lower_version1, &least);
  return least;
}

/* ---- cores ---- */

/* Lowers a number of cores to what the control group in `folder` (version 2) grants the time of. */
static void lower_to_quota(void *user, const char *folder) {
  int *limit = user;
  char path[FOLDER_SIZE + NAME_SIZE], text[64];
  long long quota = 0, period = 0;
  if (snprintf(path, sizeof path, "%s/cpu.max", folder) >= (int)sizeof path) return;
  /* "max 100000" reads nothing: no limit */
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
  each_group("", NULL, lower_to_quota, &cores);
  return cores;
}
