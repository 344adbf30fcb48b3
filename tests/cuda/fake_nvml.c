/* A stand-in for libnvidia-ml.so.1: one GPU, known by its UUID, and only between init and shutdown. */
#include <stdio.h>
#include <string.h>

static int running;

int nvmlInit_v2(void) { return running++; }
int nvmlShutdown(void) { return --running; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) {
  return !running || snprintf(text, length, "580.95.05") >= (int)length;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
  *device = &running;
  return !running || strcmp(uuid, "GPU-known") != 0;
}
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *memory) {
  const unsigned long long total_free_used[] = {1000, 700, 300};
  memcpy(memory, total_free_used, sizeof total_free_used);
  return device != &running;
}
