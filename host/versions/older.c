/* The functions of earlier interfaces that fill a struct which has grown since, under the names that programs of these
 * interfaces call. Only the shared library has them: a static one is linked with programs compiled for it. */
#include <descent/descent.h>
#include <string.h>

/* ---- 0.2: descent_metrics ended before balanced_accuracy ------------------------------------------------------- */

#undef descent_evaluate
#undef descent_metrics_clear
enum { METRICS_0_2 = offsetof(descent_metrics, balanced_accuracy) };

DESCENT_API descent_status descent_evaluate(const descent_network *network, descent_device *device,
                                            const descent_dataset *dataset, int64_t top_k, descent_metrics *metrics);
descent_status descent_evaluate(const descent_network *network, descent_device *device, const descent_dataset *dataset,
                                int64_t top_k, descent_metrics *metrics) {
  descent_metrics whole;
  const descent_status status = descent_evaluate_0_3(network, device, dataset, top_k, metrics ? &whole : NULL);
  if (status == DESCENT_OK) memcpy(metrics, &whole, METRICS_0_2);
  return status;
}

DESCENT_API void descent_metrics_clear(descent_metrics *metrics);
void descent_metrics_clear(descent_metrics *metrics) {
  descent_metrics whole = {0};
  if (!metrics) return;
  memcpy(&whole, metrics, METRICS_0_2);
  descent_metrics_clear_0_3(&whole);
  memset(metrics, 0, METRICS_0_2);
}

/* ---- 0.2: descent_bench_result ended before link_bandwidth ----------------------------------------------------- */

#undef descent_bench
enum { BENCH_RESULT_0_2 = offsetof(descent_bench_result, link_bandwidth) };

DESCENT_API descent_status descent_bench(const descent_network *network, descent_device *device,
                                         const descent_train_options *options, double seconds,
                                         void (*on_row)(void *user, const descent_bench_row *row), void *user,
                                         descent_bench_result *result);
descent_status descent_bench(const descent_network *network, descent_device *device,
                             const descent_train_options *options, double seconds,
                             void (*on_row)(void *user, const descent_bench_row *row), void *user,
                             descent_bench_result *result) {
  descent_bench_result whole;
  const descent_status status =
      descent_bench_0_3(network, device, options, seconds, on_row, user, result ? &whole : NULL);
  if (status == DESCENT_OK) memcpy(result, &whole, BENCH_RESULT_0_2);
  return status;
}
