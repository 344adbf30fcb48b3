/* The folder of a training's checkpoints: step-<15 digits>.safetensors, of which the highest number is the newest, and
 * `lock`, which the writing process locks. */
#ifndef DESCENT_CHECKPOINT_FOLDER_H
#define DESCENT_CHECKPOINT_FOLDER_H

#include <descent/descent.h>
#include <stdbool.h>

struct checkpoint_folder {
  char *path;
  int descriptor, lock; /* of the folder and of its file `lock`; their locks end with the process */
  bool unlocked;        /* the file system has no locks */
};

/* Creates the folder and its parents if they are missing, locks it if the file system has locks, and removes temporary
 * files of a killed process. ERROR_WRITE, also if another training has the lock, or `lock` is a link. ERROR_MEMORY. */
descent_status checkpoint_folder_open(const char *path, struct checkpoint_folder *folder);
/* Does nothing on a zeroed folder. */
void checkpoint_folder_close(struct checkpoint_folder *folder);
/* ERROR_WRITE if the folder or its lock cannot be examined, or if its path or the name `lock` in it now stand for
 * another file or none, so that another training may use the folder: then `*lost` too. */
descent_status checkpoint_folder_check(const struct checkpoint_folder *folder, bool *lost);

struct file_writer;
/* Opens the file of a step to be written; a link of its name is replaced, not followed. ERROR_WRITE, ERROR_MEMORY. */
descent_status checkpoint_folder_create(const struct checkpoint_folder *folder, int64_t step, struct file_writer *file);
/* The path of the file of a step, from malloc. ERROR_MEMORY. */
descent_status checkpoint_folder_file(const char *folder, int64_t step, char **path);
/* The steps that have a file, ascending, from malloc; NULL and 0 if there are none or the folder does not exist.
 * ERROR_READ, ERROR_MEMORY. */
descent_status checkpoint_folder_list(const char *folder, int64_t **steps, int64_t *n);

/* Are both paths the same folder? `a` must exist. ERROR_READ. */
descent_status checkpoint_folder_same(const char *a, const char *b, bool *same);

/* Removes the files of the steps after `step`, newest first, except that of step `except` (-1: none): the training has
 * rolled back to before them, or they are damaged. A file that cannot be removed stays, and is not reported. */
void checkpoint_folder_remove_after(const struct checkpoint_folder *folder, int64_t step, int64_t except);

/* The files that stay: the newest so many, and those of steps that are multiples of one of these, which last. */
struct checkpoint_retention {
  int64_t newest;
  int64_t every[2]; /* 0: none */
};
bool checkpoint_lasts(const struct checkpoint_retention *retention, int64_t step);
/* Removes the others, except that of step `best` (-1: none), unless they are more than `most`. One that cannot be removed
 * stays, and is not reported. */
void checkpoint_folder_prune(const struct checkpoint_folder *folder, const struct checkpoint_retention *retention,
                             int64_t best, int64_t most);

/* Syncs the other files of the folder (the log, for example) to disk, so that a checkpoint written afterwards is never
 * newer on disk than what was written to them before. ERROR_WRITE. */
descent_status checkpoint_folder_sync_others(const struct checkpoint_folder *folder);

#endif
