/* The bytes of a file in order, unpacked where they are gzip; "-" is standard input. */
#ifndef DESCENT_DATA_STREAM_H
#define DESCENT_DATA_STREAM_H

#include <descent/descent.h>
#include <zlib.h>

struct stream {
  const char *path; /* "standard input" for "-"; borrowed */
  gzFile file;
  int64_t offset; /* of the next byte, unpacked */
  int64_t size;   /* of the file as it lies there; -1 where that is not known, as for a pipe */
};

/* ERROR_READ. On failure there is nothing to close. */
descent_status stream_open(const char *path, struct stream *stream);
/* Reads up to `bytes` (at most 1 GiB); *got is less only where the stream ends. ERROR_READ; ERROR_DATA for gzip that is
 * cut off or damaged. */
descent_status stream_read(struct stream *stream, void *to, int64_t bytes, int64_t *got);
/* Back to the first byte. ERROR_READ where that cannot be, as in a pipe. */
descent_status stream_rewind(struct stream *stream);
/* Is it gzip? */
bool stream_is_packed(struct stream *stream);
/* Does nothing on a zeroed stream. */
void stream_close(struct stream *stream);

#endif
