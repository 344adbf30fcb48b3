/* Atomic results. */
#include "cli/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

bool output_open(struct output_file *output, const char *path) {
  struct stat existing;
  char place[PATH_MAX];
  *output = (struct output_file){0};
  if (strcmp(path, "-") == 0) {
    output->stream = stdout;
  } else if (stat(path, &existing) != 0 || S_ISREG(existing.st_mode)) {
    if (replace_open(path, &output->replacement, place)) output->stream = output->replacement.stream;
  } else {
    output->stream = fopen(path, "w");
  }
  return output->stream != NULL;
}

bool output_commit(struct output_file *output) {
  FILE *const stream = output->stream;
  const bool replaces = output->replacement.stream != NULL;
  output->stream = NULL;
  if (replaces) return replace_commit(&output->replacement);
  bool written = !ferror(stream); /* errno is still that of the write */
  if (written) written = fflush(stream) == 0;
  const int error = errno;
  if (fclose(stream) != 0 && written) return false;
  errno = error;
  return written;
}

void output_abandon(struct output_file *output) {
  if (output->stream && output->stream != stdout && !output->replacement.stream) fclose(output->stream);
  replace_abandon(&output->replacement);
  output->stream = NULL;
}

bool output_possible(const char *path) {
  struct output_file probe;
  struct stat existing;
  if (strcmp(path, "-") == 0) return true;
  if (stat(path, &existing) == 0 && !S_ISREG(existing.st_mode)) {
    if (S_ISDIR(existing.st_mode)) errno = EISDIR;
    return !S_ISDIR(existing.st_mode) && access(path, W_OK) == 0; /* opening a pipe would wait for its reader */
  }
  if (!output_open(&probe, path)) return false;
  output_abandon(&probe);
  return true;
}

bool output_is_special(const char *path) {
  struct stat existing;
  return stat(path, &existing) == 0 && !S_ISREG(existing.st_mode) && !S_ISDIR(existing.st_mode);
}

int output_size(const char *command, const char *path, int64_t *bytes) {
  struct stat file;
  if (stat(path, &file) != 0) return fail(command, EXIT_RUN, "%s: cannot read: %s", path, strerror(errno));
  *bytes = file.st_size;
  return EXIT_DONE;
}

bool output_same_file(const char *a, const char *b) {
  struct stat of_a, of_b;
  return stat(a, &of_a) == 0 && stat(b, &of_b) == 0 && S_ISREG(of_a.st_mode) && of_a.st_dev == of_b.st_dev &&
         of_a.st_ino == of_b.st_ino;
}

/* The folder that a path names a file in. */
static bool stat_folder(const char *path, struct stat *folder) {
  const char *slash = strrchr(path, '/');
  char *name = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
  const bool found = name && stat(name, folder) == 0;
  free(name);
  return found;
}

bool output_same_place(const char *a, const char *b) {
  struct stat of_a, of_b;
  char place_a[PATH_MAX], place_b[PATH_MAX];
  if (output_same_file(a, b)) return true;
  return replace_resolve(a, place_a) && replace_resolve(b, place_b) &&
         strcmp(basename(place_a), basename(place_b)) == 0 && stat_folder(place_a, &of_a) &&
         stat_folder(place_b, &of_b) && of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
}
