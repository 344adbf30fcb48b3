/* The functions of earlier interfaces that fill a struct which has grown since. Programs that were linked with such an
 * interface call these, by the symbol versions of descent.map; only the shared library has them. */
#include <descent/descent.h>
#include <string.h>

/* Makes `implementation` the function's version of that node. */
#if __has_attribute(symver)
#define VERSION_OF(function, node, implementation) __attribute__((symver(#function "@" node))) DESCENT_API
#else
#define VERSION_OF(function, node, implementation)            \
  __asm__(".symver " #implementation "," #function "@" node); \
  DESCENT_API
#endif

/* ---- 0.2: descent_metrics ended before balanced_accuracy ------------------------------------------------------- */

enum { METRICS_0_2 = offsetof(descent_metrics, balanced_accuracy) };

descent_status evaluate_0_2(const descent_network *network, descent_device *device, const descent_dataset *dataset,
                            int64_t top_k, descent_metrics *metrics);
VERSION_OF(descent_evaluate, "DESCENT_0.2", evaluate_0_2)
descent_status evaluate_0_2(const descent_network *network, descent_device *device, const descent_dataset *dataset,
                            int64_t top_k, descent_metrics *metrics) {
  descent_metrics whole;
  const descent_status status = descent_evaluate(network, device, dataset, top_k, metrics ? &whole : NULL);
  if (status == DESCENT_OK) memcpy(metrics, &whole, METRICS_0_2);
  return status;
}

void metrics_clear_0_2(descent_metrics *metrics);
VERSION_OF(descent_metrics_clear, "DESCENT_0.2", metrics_clear_0_2)
void metrics_clear_0_2(descent_metrics *metrics) {
  descent_metrics whole = {0};
  if (!metrics) return;
  memcpy(&whole, metrics, METRICS_0_2);
  descent_metrics_clear(&whole);
  memset(metrics, 0, METRICS_0_2);
}
