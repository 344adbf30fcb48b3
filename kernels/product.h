/* Matrix products of one device: the cuBLASLt algorithm for each shape (queried, tested, timed once, remembered), and
 * its launch. */
#ifndef DESCENT_KERNELS_PRODUCT_H
#define DESCENT_KERNELS_PRODUCT_H

#include "matmul.h"
#include "tune.h"

struct product; /* a shape with its descriptors and its algorithm */

/* The state that the products of a device share, and the choices remembered on disk. */
struct product_library;
/* Makes the device the thread's current one. */
descent_status product_library_open(int ordinal, struct product_library **library);
void product_library_close(struct product_library *library);
int64_t product_library_bytes(const struct product_library *library); /* device memory held */
/* Workspaces for products that run at the same time, on two streams. */
enum { PRODUCT_WORKSPACES = 2 };
void *product_library_workspace(const struct product_library *library, int i);
int64_t product_library_workspace_bytes(const struct product_library *library); /* of one */
/* True if an algorithm is in use that only passed its tests, because no candidate has the right flags. */
bool product_library_untrusted(const struct product_library *library);

/* True if a choice was timed that cannot be remembered: another process may choose otherwise. */
bool product_library_forgets(const struct product_library *library);

/* DESCENT_CUDA_CHOOSE=seed: algorithms and the choices of choose.c are drawn from seed and shape instead of timed, and
 * nothing is remembered, so that tests cover choices that timings would not produce. */
bool product_library_draws(const struct product_library *library);
/* One of 0 .. n - 1, drawn from the seed, the key and the name of the choice. */
int product_library_draw(const struct product_library *library, const char *key, const char *what, int n);

/* What a choice for this shape depends on, as one line of text. */
void product_library_key(const struct product_library *library, const struct product_shape *shape, char key[TUNE_KEY]);
/* A remembered choice: NULL: none. */
const struct tune_entry *product_library_recall(const struct product_library *library, const char *key);
void product_library_remember(struct product_library *library, const struct tune_entry *entry);
/* A line of the trace (trace.h): its first word, the key, and the text. */
void product_library_trace(const struct product_library *library, const char *word, const char *key, const char *format,
                           ...) __attribute__((format(printf, 4, 5)));
int64_t product_library_cache(const struct product_library *library); /* bytes of the L2; 0: unknown */

/* Creates the product of a shape. `tune`: with the algorithm remembered for the shape, else the fastest of several,
 * timed and then remembered; false: with the heuristic's first. The algorithm passes its trials (trial.h) and reports
 * that it is reproducible and of the requested precision; if none reports so, the trials decide. Allocates scratch of
 * the operands' sizes, runs candidates on `stream` and frees the scratch before it returns. ERROR_UNSUPPORTED, with the
 * shape, when the library has no such algorithm for the shape with this epilogue. */
descent_status product_create(struct product_library *library, const struct product_shape *shape, bool tune,
                              cudaStream_t stream, struct product **product);
void product_free(struct product *product);
void product_algorithm(const struct product *product, uint64_t words[TUNE_WORDS]); /* as it is remembered */
int64_t product_workspace(const struct product *product); /* bytes of it that the algorithm needs */
double product_seconds(const struct product *product);    /* as timed when tuned; 0: not tuned */

/* Enqueues one product. Allocates nothing and may be captured. */
descent_status product_run(const struct product *product, const struct product_operands *operands, cudaStream_t stream);

#endif
