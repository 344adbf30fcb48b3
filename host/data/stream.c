/* A file as it is, or decompressed when it begins as gzip. A gzip file may have several members. zlib's own file
 * functions take a damaged later member for the end of the file, so the members are followed here. */
#include "data/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef DESCENT_FORMATS_BUILT
#include <zlib.h>
#else
#include "core/left_out.h"
#endif

#include "core/memory.h"
#include "core/status.h"
#include "data/expansion.h"

enum { BUFFER = 1 << 18 };

struct stream_source {
  int file;
  off_t start;        /* where the file begins; -1 for a pipe */
  int64_t begin, end; /* bytes of the buffer that are not used yet */
  int64_t taken;      /* bytes of the file up to `end` */
  bool looked, gzip;  /* looked: the first bytes were read, and `gzip` is valid */
  bool ready, inside; /* ready: z is initialised; inside: within a gzip member */
#ifdef DESCENT_FORMATS_BUILT
  z_stream z;
#endif
  unsigned char buffer[BUFFER];
};

descent_status stream_require_file(const char *path, const char *why) {
  struct stat about;
  const bool known = strcmp(path, "-") == 0 ? fstat(STDIN_FILENO, &about) == 0 : stat(path, &about) == 0;
  if (!known || !(S_ISFIFO(about.st_mode) || S_ISCHR(about.st_mode) || S_ISSOCK(about.st_mode))) return DESCENT_OK;
  return status_set(DESCENT_ERROR_READ, "%s: not a regular file, %s (save it as a file)",
                    strcmp(path, "-") == 0 ? "standard input" : path, why);
}

descent_status stream_open(const char *path, struct stream *stream) {
  const bool standard_input = strcmp(path, "-") == 0;
  *stream = (struct stream){.path = standard_input ? "standard input" : path, .size = -1};
  const int file = standard_input ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0) : open(path, O_RDONLY | O_CLOEXEC);
  struct stat about;
  if (file < 0 || fstat(file, &about) != 0 || (S_ISDIR(about.st_mode) && (errno = EISDIR))) {
    const int reason = errno;
    if (file >= 0) close(file);
    return status_cannot_read(stream->path, reason);
  }
  if (S_ISREG(about.st_mode)) stream->size = (int64_t)about.st_size;
  stream->source = memory_allocate(1, sizeof *stream->source, "the read buffer");
  if (!stream->source) {
    close(file);
    return DESCENT_ERROR_MEMORY;
  }
  stream->source->file = file;
  stream->source->start = lseek(file, 0, SEEK_CUR);
  return DESCENT_OK;
}

void stream_close(struct stream *stream) {
  struct stream_source *s = stream->source;
  if (s) {
#ifdef DESCENT_FORMATS_BUILT
    if (s->ready) inflateEnd(&s->z);
#endif
    close(s->file);
    free(s);
  }
  *stream = (struct stream){0};
}

/* ---- bytes of the file ------------------------------------------------------------------------------------------ */

/* Fewer than `bytes` only at the end of the file. */
static descent_status read_file(struct stream *stream, void *to, int64_t bytes, int64_t *got) {
  struct stream_source *s = stream->source;
  for (*got = 0; *got < bytes;) {
    const ssize_t n = read(s->file, (char *)to + *got, (size_t)(bytes - *got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return status_cannot_read(stream->path, errno);
    if (n == 0) break;
    *got += n;
    s->taken += n;
  }
  return DESCENT_OK;
}

/* Leaves at least two bytes in the buffer, fewer only at the end of the file. */
static descent_status fill(struct stream *stream) {
  struct stream_source *s = stream->source;
  int64_t got = 0;
  if (s->end - s->begin >= 2) return DESCENT_OK;
  memmove(s->buffer, s->buffer + s->begin, (size_t)(s->end - s->begin));
  s->end -= s->begin;
  s->begin = 0;
  const descent_status status = read_file(stream, s->buffer + s->end, BUFFER - s->end, &got);
  s->end += got;
  return status;
}

static bool begins_member(const struct stream_source *s) {
  return s->end - s->begin >= 2 && s->buffer[s->begin] == 0x1f && s->buffer[s->begin + 1] == 0x8b;
}

/* Decides whether the file is gzip. */
static descent_status look(struct stream *stream) {
  struct stream_source *s = stream->source;
  descent_status status = DESCENT_OK;
  if (s->looked) return DESCENT_OK;
  TRY(fill(stream));
  s->looked = true;
  s->gzip = begins_member(s);
done:
  return status;
}

/* ---- gzip ------------------------------------------------------------------------------------------------------- */

#ifdef DESCENT_FORMATS_BUILT
static descent_status damaged(const struct stream *stream, const char *problem) {
  return status_set(DESCENT_ERROR_DATA, "%s: gzip, at decompressed byte %" PRId64 ": %s (copy the file again)",
                    stream->path, stream->offset, problem);
}

static descent_status out_of_memory(const struct stream *stream) {
  return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory while decompressing", stream->path);
}

/* Between members: begins the next one. `inside` stays false at the end of the file, which zeros may precede: tapes and
 * some tools pad with them. */
static descent_status next_member(struct stream *stream) {
  enum { GZIP = 16 };
  struct stream_source *s = stream->source;
  descent_status status;
  TRY(fill(stream));
  if (begins_member(s)) {
    if ((s->ready ? inflateReset(&s->z) : inflateInit2(&s->z, MAX_WBITS + GZIP)) != Z_OK) TRY(out_of_memory(stream));
    s->ready = s->inside = true;
    goto done;
  }
  while (s->begin < s->end && s->buffer[s->begin] == 0) {
    s->begin++;
    TRY(fill(stream));
  }
  if (s->begin < s->end)
    TRY(status_set(DESCENT_ERROR_DATA,
                   "%s: gzip, at byte %" PRId64
                   " of the file: what follows the compressed data is neither gzip nor zeros "
                   "(copy the file again)",
                   stream->path, s->taken - (s->end - s->begin)));
done:
  return status;
}

static descent_status decompress(struct stream *stream, void *to, int64_t bytes, int64_t *got) {
  struct stream_source *s = stream->source;
  descent_status status = DESCENT_OK;
  while (*got < bytes) {
    if (!s->inside) {
      TRY(next_member(stream));
      if (!s->inside) break; /* set by next_member */
    }
    TRY(fill(stream));
    if (s->begin == s->end) TRY(damaged(stream, "the file is truncated"));
    s->z.next_in = s->buffer + s->begin;
    s->z.avail_in = (unsigned)(s->end - s->begin);
    s->z.next_out = (unsigned char *)to + *got;
    s->z.avail_out = (unsigned)(bytes - *got);
    const int code = inflate(&s->z, Z_NO_FLUSH);
    s->begin = s->end - s->z.avail_in;
    const int64_t n = bytes - *got - s->z.avail_out;
    *got += n;
    stream->offset += n;
    s->inside = code != Z_STREAM_END;
    if (code == Z_MEM_ERROR) TRY(out_of_memory(stream));
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
      TRY(damaged(stream, s->z.msg ? s->z.msg : "damaged"));
  }
done:
  return status;
}
#else
static descent_status decompress(struct stream *stream, void *to, int64_t bytes, int64_t *got) {
  (void)to, (void)bytes, (void)got;
  return format_left_out(stream->path, "read gzip");
}
#endif

/* ---- the stream ------------------------------------------------------------------------------------------------- */

/* What `look` left in the buffer comes first. */
static descent_status copy(struct stream *stream, void *to, int64_t bytes, int64_t *got) {
  struct stream_source *s = stream->source;
  const int64_t held = s->end - s->begin, n = held < bytes ? held : bytes;
  int64_t more = 0;
  memcpy(to, s->buffer + s->begin, (size_t)n);
  s->begin += n;
  const descent_status status = read_file(stream, (char *)to + n, bytes - n, &more);
  *got = n + more;
  stream->offset += *got;
  return status;
}

descent_status stream_read(struct stream *stream, void *to, int64_t bytes, int64_t *got) {
  descent_status status;
  *got = 0;
  TRY(look(stream));
  TRY(stream->source->gzip ? decompress(stream, to, bytes, got) : copy(stream, to, bytes, got));
done:
  return status;
}

descent_status stream_rewind(struct stream *stream) {
  struct stream_source *s = stream->source;
  if (s->start < 0 || lseek(s->file, s->start, SEEK_SET) < 0)
    return status_set(DESCENT_ERROR_READ, "%s: must be read twice, which a pipe does not allow (save it as a file)",
                      stream->path);
  s->begin = s->end = s->taken = stream->offset = 0;
  s->looked = s->inside = false;
  return DESCENT_OK;
}

int64_t stream_used(const struct stream *stream) {
  const struct stream_source *s = stream->source;
  return s->gzip ? s->taken - (s->end - s->begin) : stream->offset;
}

int64_t stream_bytes(const struct stream *stream) {
  const int64_t packed = stream_used(stream);
  return stream->offset / EXPANSION_GZIP < packed ? stream->offset : packed * EXPANSION_GZIP;
}

bool stream_is_compressed(struct stream *stream) { return look(stream) == DESCENT_OK && stream->source->gzip; }
