/* The writer thread: waits for a snapshot, writes it, removes old files and records the outcome. */
#include "checkpoint/writer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/safetensors.h"
#include "core/status.h"
#include "core/thread.h"

struct checkpoint_writer {
  const struct checkpoint_folder *folder;
  const struct checkpoint_retention *retention;
  const descent_network *network;
  const struct configuration *configuration;
  const struct snapshot *snapshot;
  int64_t newest; /* step of the newest intact file */
  pthread_t thread;
  pthread_mutex_t mutex; /* guards what follows */
  pthread_cond_t changed;
  bool writing, stopping, outcome_pending; /* outcome_pending: `outcome` has not been taken yet */
  struct checkpoint_outcome outcome;
};

/* Reads the header back, which tells the file's length. Where renaming is not atomic, the file may be incomplete; then
 * the older ones must stay. */
static descent_status check_complete(const char *path) {
  struct safetensors file;
  const descent_status status = safetensors_open(path, &file);
  if (status == DESCENT_OK) safetensors_close(&file);
  return status == DESCENT_OK || status == DESCENT_ERROR_MEMORY
             ? status
             : status_set(DESCENT_ERROR_WRITE, "%s (read back after it was written)", descent_last_error());
}

static void write_snapshot(struct checkpoint_writer *writer, struct checkpoint_outcome *outcome) {
  const int64_t step = writer->snapshot->step;
  struct file_writer file;
  char *path = NULL;
  descent_status status;
  *outcome = (struct checkpoint_outcome){.step = step};
  TRY(checkpoint_folder_file(writer->folder->path, step, &path));
  snprintf(outcome->path, sizeof outcome->path, "%s", path);
  TRY(checkpoint_folder_check(writer->folder, &outcome->lost));
  TRY(checkpoint_folder_sync_others(writer->folder));
  TRY(checkpoint_folder_create(writer->folder, step, &file));
  TRY(checkpoint_write(&file, writer->network, writer->configuration, writer->snapshot));
  TRY(check_complete(path));
  checkpoint_folder_remove_after(writer->folder, step < writer->newest ? step : writer->newest, step);
  checkpoint_folder_prune(writer->folder, writer->retention, writer->snapshot->best_step, INT64_MAX);
  writer->newest = step;
done:
  outcome->status = status;
  if (status != DESCENT_OK) snprintf(outcome->message, sizeof outcome->message, "%s", descent_last_error());
  free(path);
}

static void *run_writer(void *argument) {
  struct checkpoint_writer *writer = argument;
  struct checkpoint_outcome outcome;
  pthread_mutex_lock(&writer->mutex);
  for (;;) {
    while (!writer->writing && !writer->stopping) pthread_cond_wait(&writer->changed, &writer->mutex);
    if (!writer->writing) break;
    pthread_mutex_unlock(&writer->mutex);
    write_snapshot(writer, &outcome);
    pthread_mutex_lock(&writer->mutex);
    writer->outcome = outcome;
    writer->outcome_pending = true;
    writer->writing = false;
    pthread_cond_broadcast(&writer->changed);
  }
  pthread_mutex_unlock(&writer->mutex);
  return NULL;
}

descent_status checkpoint_writer_start(const struct checkpoint_folder *folder,
                                       const struct checkpoint_retention *retention, int64_t newest,
                                       const descent_network *network, const struct configuration *configuration,
                                       const struct snapshot *snapshot, struct checkpoint_writer **writer) {
  struct checkpoint_writer *made = memory_allocate(1, sizeof *made, "the checkpoint writer");
  if (!made) return DESCENT_ERROR_MEMORY;
  made->folder = folder;
  made->retention = retention;
  made->newest = newest;
  made->network = network;
  made->configuration = configuration;
  made->snapshot = snapshot;
  pthread_mutex_init(&made->mutex, NULL);
  pthread_cond_init(&made->changed, NULL);
  const int failed = thread_create(&made->thread, run_writer, made);
  if (failed) {
    pthread_cond_destroy(&made->changed);
    pthread_mutex_destroy(&made->mutex);
    free(made);
    return status_set(DESCENT_ERROR_MEMORY, "out of memory: cannot start a thread to write checkpoints: %s",
                      strerror(failed));
  }
  *writer = made;
  return DESCENT_OK;
}

void checkpoint_writer_stop(struct checkpoint_writer *writer) {
  if (!writer) return;
  pthread_mutex_lock(&writer->mutex);
  writer->stopping = true;
  pthread_cond_broadcast(&writer->changed);
  pthread_mutex_unlock(&writer->mutex);
  pthread_join(writer->thread, NULL);
  pthread_cond_destroy(&writer->changed);
  pthread_mutex_destroy(&writer->mutex);
  free(writer);
}

bool checkpoint_writer_outcome(struct checkpoint_writer *writer, bool wait, struct checkpoint_outcome *outcome) {
  pthread_mutex_lock(&writer->mutex);
  while (wait && writer->writing) pthread_cond_wait(&writer->changed, &writer->mutex);
  const bool pending = writer->outcome_pending;
  if (pending) *outcome = writer->outcome;
  writer->outcome_pending = false;
  pthread_mutex_unlock(&writer->mutex);
  return pending;
}

void checkpoint_writer_write(struct checkpoint_writer *writer) {
  pthread_mutex_lock(&writer->mutex);
  writer->writing = true;
  pthread_cond_broadcast(&writer->changed);
  pthread_mutex_unlock(&writer->mutex);
}
