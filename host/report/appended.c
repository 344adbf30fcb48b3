/* Parts are written at a known place, so that one that was written halfway is written again over its first half. */
#include "report/appended.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

bool appended_open(struct appended_file *f, int descriptor) {
  struct stat about;
  if (fstat(descriptor, &about) != 0) {
    const int error = errno;
    close(descriptor);
    errno = error;
    return false;
  }
  f->open = true;
  f->descriptor = descriptor;
  f->regular = S_ISREG(about.st_mode);
  f->end = about.st_size;
  return true;
}

/* Room for `more` bytes behind those that wait; false with errno set. */
static bool make_room(struct appended_file *f, size_t more) {
  enum { MOST = 16 << 20 };
  size_t capacity = f->capacity ? f->capacity : 4096;
  if (more > MOST - f->length) {
    errno = ENOMEM;
    return false;
  }
  while (capacity < f->length + more) capacity *= 2;
  if (capacity == f->capacity) return true;
  char *grown = realloc(f->waiting, capacity);
  if (!grown) return false;
  f->waiting = grown;
  f->capacity = capacity;
  return true;
}

/* Writes one part; false with errno set, and the file as it was where it is regular. */
static bool write_part(struct appended_file *f, const char *part, size_t length) {
  size_t done = 0;
  while (done < length) {
    const ssize_t n = f->regular ? pwrite(f->descriptor, part + done, length - done, f->end + (off_t)done)
                                 : write(f->descriptor, part + done, length - done);
    if (n <= 0) {
      const int error = n == 0 ? EIO : errno;
      /* Not checked: a reader leaves out an unfinished part, and the next try writes over it. */
      if (f->regular && done && ftruncate(f->descriptor, f->end) != 0) errno = error;
      errno = error;
      return false;
    }
    done += (size_t)n;
  }
  f->end += (off_t)length;
  return true;
}

bool appended_write(struct appended_file *f) {
  size_t at = 0, length;
  bool written = true;
  struct stat about;
  if (!f->open) return f->parts == 0;
  /* Another program may have emptied it, as those that rotate logs do. */
  if (f->regular && fstat(f->descriptor, &about) == 0 && about.st_size < f->end) f->end = about.st_size;
  while (at < f->length) {
    memcpy(&length, f->waiting + at, sizeof length);
    written = write_part(f, f->waiting + at + sizeof length, length);
    if (!written) break;
    at += sizeof length + length;
    f->parts--;
  }
  f->length -= at;
  if (f->length && at) memmove(f->waiting, f->waiting + at, f->length);
  return written;
}

bool appended_add(struct appended_file *f, const void *part, size_t length) {
  if (!make_room(f, sizeof length + length)) {
    const int error = errno;
    f->lost++;
    appended_write(f);
    errno = error;
    return false;
  }
  memcpy(f->waiting + f->length, &length, sizeof length);
  memcpy(f->waiting + f->length + sizeof length, part, length);
  f->length += sizeof length + length;
  f->parts++;
  return appended_write(f);
}

bool appended_close(struct appended_file *f, int tries, int64_t *missing) {
  static const struct timespec pause = {0, 250000000};
  bool written = appended_write(f);
  for (int i = 1; !written && f->open && i < tries; i++) {
    nanosleep(&pause, NULL);
    written = appended_write(f);
  }
  int error = errno;
  struct stat about;
  if (written && f->regular && fstat(f->descriptor, &about) == 0 && about.st_nlink == 0)
    written = false, error = ENOENT;
  if (f->open && close(f->descriptor) != 0 && written) written = false, error = errno;
  *missing = f->parts + f->lost;
  if (f->lost && written) written = false, error = ENOMEM;
  free(f->waiting);
  *f = (struct appended_file){0};
  errno = error;
  return written;
}
