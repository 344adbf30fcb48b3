/* Paths are made absolute as far as they exist; the rest is taken by its names. */
#include "cli/place.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/train.h"
#include "core/replace.h"

bool place_is_of_checkpoints(const char *name) {
  static const char prefix[] = "step-", suffix[] = ".safetensors";
  enum { DIGITS = 15 };
  const char *digits = name + sizeof prefix - 1;
  if (strcmp(name, "lock") == 0 || strcmp(name, CHECKPOINT_LOG) == 0 || replace_is_temporary(name, "")) return true;
  return strncmp(name, prefix, sizeof prefix - 1) == 0 && strspn(digits, "0123456789") == DIGITS &&
         strcmp(digits + DIGITS, suffix) == 0;
}

/* Appends a name to an absolute path; false if it does not fit. */
static bool append(char place[PATH_MAX], const char *name, size_t length) {
  const size_t before = strlen(place), slash = before > 1;
  if (length == 0 || (length == 1 && *name == '.')) return true;
  if (length == 2 && memcmp(name, "..", 2) == 0) {
    char *const last = strrchr(place, '/');
    last[last == place] = '\0';
    return true;
  }
  if (before + slash + length >= PATH_MAX) return false;
  if (slash) place[before] = '/';
  memcpy(place + before + slash, name, length);
  place[before + slash + length] = '\0';
  return true;
}

/* False where there can be nothing. */
static bool resolve(const char *path, char place[PATH_MAX]) {
  char given[PATH_MAX], there[PATH_MAX];
  if (!replace_resolve(path, given)) return false;
  size_t cut = strlen(given);
  for (;;) { /* the longest part that exists */
    memcpy(there, given, cut);
    there[cut] = '\0';
    if (realpath(cut ? there : ".", place)) break;
    if (cut == 0) return false;
    while (cut > 0 && given[cut - 1] == '/') cut--;
    while (cut > 0 && given[cut - 1] != '/') cut--;
  }
  for (const char *rest = given + cut; *rest; rest += *rest == '/') {
    const size_t length = strcspn(rest, "/");
    if (!append(place, rest, length)) return false;
    rest += length;
  }
  return true;
}

static bool same_folder(const char *a, const char *b) {
  struct stat of_a, of_b;
  if (strcmp(a, b) == 0) return true;
  return stat(a, &of_a) == 0 && stat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
}

bool place_within(const char *path, const char *folder, char name[NAME_MAX + 1]) {
  char place[PATH_MAX], of_folder[PATH_MAX];
  if (!resolve(path, place) || !resolve(folder, of_folder)) return false;
  *name = '\0';
  if (same_folder(place, of_folder)) return true;
  for (char *slash = strrchr(place, '/'); slash; slash = strrchr(place, '/')) {
    if (strlen(slash + 1) > NAME_MAX) return false;
    strcpy(name, slash + 1);
    *slash = '\0';
    if (same_folder(*place ? place : "/", of_folder)) return true;
  }
  return false;
}

bool place_holds_checkpoints(const char *path) {
  char place[PATH_MAX];
  struct dirent *entry;
  bool lock = false, checkpoint = false;
  if (!resolve(path, place)) return false;
  char *const slash = strrchr(place, '/');
  if (!place_is_of_checkpoints(slash + 1)) return false;
  *slash = '\0';
  DIR *const folder = opendir(*place ? place : "/");
  while (folder && (entry = readdir(folder))) {
    if (strcmp(entry->d_name, "lock") == 0)
      lock = true;
    else if (strncmp(entry->d_name, "step-", 5) == 0 && place_is_of_checkpoints(entry->d_name))
      checkpoint = true;
  }
  if (folder) closedir(folder);
  return lock && checkpoint;
}
