/* The control groups that this process is in: where the kernel says what they may use. */
#ifndef DESCENT_CORE_CGROUP_H
#define DESCENT_CORE_CGROUP_H

/* Calls `visit` with the folder of this process's group and of each that holds it, up to the mount's own root, which is
 * what a container sees. `controller` is that of version 1, "memory" say; NULL: version 2. `root` stands before every
 * path: "" but in tests. Takes no memory. */
void cgroup_each(const char *root, const char *controller, void (*visit)(void *user, const char *folder), void *user);

#endif
