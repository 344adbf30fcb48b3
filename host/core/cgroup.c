/* From /proc/self/cgroup, "0::/path" or "4:memory:/path" a line, to folders below /sys/fs/cgroup. */
#include "core/cgroup.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"

enum { PATH_SIZE = 4096, TEXT_SIZE = 2 * PATH_SIZE };

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

void cgroup_each(const char *root, const char *controller, void (*visit)(void *user, const char *folder), void *user) {
  char text[TEXT_SIZE], folder[TEXT_SIZE], *rest = text;
  const char *path = NULL;
  snprintf(folder, sizeof folder, "%s/proc/self/cgroup", root);
  if (!file_read_text(folder, text, sizeof text)) return;
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
