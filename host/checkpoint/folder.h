/* The folder that a training keeps its checkpoints in: step-<15 digits>.safetensors, the newest by name the newest of
 * the training, and `lock`, held by the process that writes. */
#ifndef DESCENT_CHECKPOINT_FOLDER_H
#define DESCENT_CHECKPOINT_FOLDER_H

#include <descent/descent.h>
#include <stdbool.h>

struct checkpoint_folder {
  char *path;
  int lock; /* descriptor; the lock goes with the process, however it ends */
};

/* Makes the folder and those above it where they are missing, takes the lock where the file system has locks, and
 * removes what a process that was killed left unfinished. ERROR_WRITE, also when another process has the lock. */
descent_status checkpoint_folder_open(const char *path, struct checkpoint_folder *folder);
/* Does nothing on a zeroed folder. */
void checkpoint_folder_close(struct checkpoint_folder *folder);

/* The path of a step's file, from malloc. */
descent_status checkpoint_folder_file(const char *folder, int64_t step, char **path);
/* The steps that there are files of, ascending, from malloc; none of a folder that is not there. ERROR_READ. */
descent_status checkpoint_folder_list(const char *folder, int64_t **steps, int64_t *n);

/* Do both names lead to the same folder? `a` is one that is there. ERROR_READ. */
descent_status checkpoint_folder_same(const char *a, const char *b, bool *same);

/* Removes the files of steps after this one but for that of `but`, the newest first: they are of a course that is given
 * up, or damaged. What cannot be removed stays, here and below. */
void checkpoint_folder_remove_after(const struct checkpoint_folder *folder, int64_t step, int64_t but);
/* Removes all but the `keep` newest. */
void checkpoint_folder_prune(const struct checkpoint_folder *folder, int64_t keep);

/* Brings all else that lies there to disk, a log of the training say: so no checkpoint that is written after it can be
 * newer than what was written beside it before. ERROR_WRITE. */
descent_status checkpoint_folder_sync_others(const struct checkpoint_folder *folder);

#endif
