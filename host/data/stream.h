/* Sequential reading of a file, decompressing gzip; "-" is standard input. */
#ifndef DESCENT_DATA_STREAM_H
#define DESCENT_DATA_STREAM_H

#include <descent/descent.h>

struct stream {
  const char *path; /* "standard input" for "-"; borrowed */
  int64_t offset;   /* of the next byte, decompressed */
  int64_t size;     /* of the file on disk; -1 when unknown, as for a pipe */
  struct stream_source *source;
};

/* ERROR_READ for a pipe, a terminal or a socket, from which a file's bytes come once and in order. Waits for no writer:
 * to be called before the file is opened. `why`: "which .npz requires". Leaves other errors to the opening. */
descent_status stream_require_file(const char *path, const char *why);
/* ERROR_READ. On failure there is nothing to close. */
descent_status stream_open(const char *path, struct stream *stream);
/* Reads up to `bytes` (at most 1 GiB); *got is less only at the end of the stream. ERROR_READ; ERROR_DATA for gzip that
 * is truncated or damaged in any member, or followed by anything but zeros. */
descent_status stream_read(struct stream *stream, void *to, int64_t bytes, int64_t *got);
/* Seeks to the first byte. ERROR_READ when that is impossible, as for a pipe. */
descent_status stream_rewind(struct stream *stream);
/* Whether it is gzip. */
bool stream_is_compressed(struct stream *stream);
/* How much was read so far, of gzip at most EXPANSION_GZIP times what it takes on disk. */
int64_t stream_bytes(const struct stream *stream);
/* How much of the file on disk was used so far; compare with `size`. */
int64_t stream_used(const struct stream *stream);
/* No-op on a zeroed stream. */
void stream_close(struct stream *stream);

#endif
