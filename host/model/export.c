/* Selects the writer of an export format. */
#include "model/export.h"

#include "core/handle.h"
#include "core/status.h"

descent_status descent_network_export(const descent_network *network, descent_export_format format, const char *path) {
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(argument_check(path, "path"));
  switch (format) {
    case DESCENT_EXPORT_FORMAT_ONNX: return export_onnx(network, path);
    case DESCENT_EXPORT_FORMAT_C: return export_c(network, path);
    case DESCENT_EXPORT_FORMAT_NPZ: return export_npz(network, path);
  }
  status = status_set(DESCENT_ERROR_ARGUMENT, "unknown export format %d", (int)format);
done:
  return status;
}
