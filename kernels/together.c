/* A small network leaves most multiprocessors idle, so the steps of several programs are the branches of one graph, a
 * joint graph: each branch has the nodes that the program's graph of the range has, and no branch waits for another. The
 * programs share no memory that a launch writes: their queue, buffers and scratch are separate, and so are the workspaces
 * of products from then on (beside_separate). Hence each has the bits of running alone.
 *
 * A joint graph is made when a set of programs runs together for the second time, since sets that come once, or more of
 * them in turn than graphs are held, would cost more than they save. Until then, and where the driver refuses one or memory
 * does not suffice, the programs run one after another. */
#include "together.h"

#include <stdlib.h>

#include "compiled.h"
#include "profile.h"

enum {
  MOST_JOINTS = DEVICE_ASKED, /* of a device: of some groups, with and without statistics, in several sizes */
  MOST_GROUPS = 4,            /* of runs of different lengths in one call: each needs graphs */
  LEAST_STEPS = 4,            /* for which a further group is made */
  MOST_STEPS = 16,            /* of each member in a joint graph */
  FEWER = 4,                  /* graphs of 16, 4 and 1 steps */
  MOST_NODES = 8192           /* operations of a joint graph of several steps */
};

struct joint_member {
  const struct backend_program *program;
  struct plan_range range;
};
struct joint_graph {
  struct joint_graph *next; /* of the device's list, the one used last first */
  struct joint_member members[BACKEND_MOST_JOBS];
  int n;
  int64_t steps;        /* of each member */
  cudaGraphExec_t exec; /* NULL: refused */
  const char *refusal;
};

static const char side_by_side[] = "members: side by side";
static const char no_memory[] = "members: in turn: no GPU memory for a joint graph";
static const char no_graph[] = "members: in turn: the driver refuses a joint graph";

/* ---- the joint graphs of a device ---- */

static void destroy(struct joint_graph *joint) {
  if (joint->exec) (void)cudaGraphExecDestroy(joint->exec);
  free(joint);
}

static bool has(const struct joint_graph *joint, const struct backend_program *program) {
  for (int i = 0; i < joint->n; i++)
    if (joint->members[i].program == program) return true;
  return false;
}

void together_forget(const struct backend_program *program) {
  struct joint_graph **link = &program->device->shared->joints;
  while (*link) {
    struct joint_graph *const joint = *link;
    if (has(joint, program)) {
      *link = joint->next;
      destroy(joint);
    } else {
      link = &joint->next;
    }
  }
}

static bool is_of(const struct joint_graph *joint, struct run *const runs[], int n, int64_t steps) {
  if (joint->n != n || joint->steps != steps) return false;
  for (int i = 0; i < n; i++) {
    const struct joint_member *const member = &joint->members[i];
    if (member->program != runs[i]->program || member->range.first != runs[i]->range.first ||
        member->range.count != runs[i]->range.count)
      return false;
  }
  return true;
}

/* Moves it to the front. */
static struct joint_graph *find(const struct backend_device *device, struct run *const runs[], int n, int64_t steps) {
  struct joint_graph **const list = &device->shared->joints;
  for (struct joint_graph **link = list; *link; link = &(*link)->next) {
    struct joint_graph *const joint = *link;
    if (!is_of(joint, runs, n, steps)) continue;
    *link = joint->next;
    joint->next = *list;
    return *list = joint;
  }
  return NULL;
}

static void add(const struct backend_device *device, struct joint_graph *joint) {
  struct joint_graph **link = &device->shared->joints;
  joint->next = *link;
  *link = joint;
  for (int i = 0; i < MOST_JOINTS && *link; i++) link = &(*link)->next;
  while (*link) {
    struct joint_graph *const oldest = *link;
    *link = oldest->next;
    destroy(oldest);
  }
}

/* ---- making one ---- */

static uint64_t hash(uint64_t value, const void *data, size_t bytes) { /* FNV-1a (Fowler, Noll, Vo 1991) */
  for (size_t i = 0; i < bytes; i++) value = (value ^ ((const unsigned char *)data)[i]) * UINT64_C(1099511628211);
  return value;
}

/* Was a graph for this set missing a short time ago? Notes that it is. */
static bool was_asked(const struct backend_device *device, struct run *const runs[], int n, int64_t steps) {
  struct device_shared *const shared = device->shared;
  uint64_t set = hash(UINT64_C(14695981039346656037), &steps, sizeof steps);
  for (int i = 0; i < n; i++) {
    set = hash(set, &runs[i]->program, sizeof runs[i]->program);
    set = hash(set, &runs[i]->range, sizeof runs[i]->range);
  }
  for (int i = 0; i < DEVICE_ASKED; i++)
    if (shared->asked[i] == set) return true;
  shared->asked[shared->next_asked] = set;
  shared->next_asked = (shared->next_asked + 1) % DEVICE_ASKED;
  return false;
}

static descent_status add_branch(cudaGraph_t graph, const struct run *run, int64_t steps) {
  cudaGraph_t branch;
  cudaGraphNode_t node;
  descent_status status;
  TRY(run_record(run->program, run->range, steps, NULL, &branch));
  CUDA_TRY(cudaGraphAddChildGraphNode(&node, graph, NULL, 0, branch));
done:
  if (branch) (void)cudaGraphDestroy(branch);
  return status;
}

/* Before the first takes its workspaces, which it has from then on: is there memory for those of all? */
static descent_status check_memory(struct run *const runs[], int n) {
  int64_t needed = 0, left = 0;
  descent_status status = DESCENT_OK;
  for (int i = 0; i < n; i++) needed += beside_separate_bytes(&runs[i]->program->beside);
  if (needed > 0) TRY(resident_free(&left));
  if (needed > left) status = DESCENT_ERROR_MEMORY;
done:
  return status;
}

/* Any failure: one that is not of the joint graph shows when the members are launched alone. */
static descent_status instantiate(struct run *const runs[], int n, int64_t steps, cudaGraphExec_t *exec) {
  cudaGraph_t graph = NULL;
  descent_status status = DESCENT_OK;
  TRY(check_memory(runs, n));
  CUDA_TRY(cudaGraphCreate(&graph, 0));
  for (int i = 0; i < n; i++) {
    bool separate;
    TRY(beside_separate(&runs[i]->program->beside, &runs[i]->program->memory, &separate));
    if (!separate) TRY(DESCENT_ERROR_MEMORY);
    TRY(add_branch(graph, runs[i], steps));
  }
  CUDA_TRY(cudaGraphInstantiate(exec, graph, 0));
done:
  if (status != DESCENT_OK) *exec = NULL;
  if (graph) (void)cudaGraphDestroy(graph);
  return status;
}

/* *result is NULL where it is the first time. */
static descent_status find_or_make(const struct backend_device *device, struct run *const runs[], int n, int64_t steps,
                                   struct joint_graph **result) {
  struct joint_graph *joint = find(device, runs, n, steps);
  *result = joint;
  if (joint || !was_asked(device, runs, n, steps)) return DESCENT_OK;
  joint = module_allocate(1, sizeof *joint, "the graph of several networks");
  if (!joint) return DESCENT_ERROR_MEMORY;
  joint->n = n;
  joint->steps = steps;
  for (int i = 0; i < n; i++) joint->members[i] = (struct joint_member){runs[i]->program, runs[i]->range};
  const descent_status status = instantiate(runs, n, steps, &joint->exec);
  if (status != DESCENT_OK) joint->refusal = status == DESCENT_ERROR_MEMORY ? no_memory : no_graph;
  add(device, joint);
  *result = joint;
  return DESCENT_OK;
}

/* ---- runs ---- */

/* Launches so many steps of each of the runs side by side; *launched of them where there is no joint graph. */
static descent_status launch_joint(const struct backend_device *device, struct run *const runs[], int n, int64_t steps,
                                   int64_t *launched) {
  const char *said = NULL; /* of a refusal */
  struct joint_graph *joint;
  int64_t nodes = 0;
  descent_status status = DESCENT_OK;
  for (int i = 0; i < n; i++) nodes += runs[i]->range.count;
  *launched = 0;
  for (int64_t each = MOST_STEPS; each > 0; each /= FEWER) {
    if (each > 1 && each * nodes > MOST_NODES) continue;
    while (steps - *launched >= each) {
      TRY(find_or_make(device, runs, n, each, &joint));
      if (joint && !joint->exec) said = joint->refusal;
      if (!joint || !joint->exec) break;
      CUDA_TRY(cudaGraphLaunch(joint->exec, device->stream));
      *launched += each;
    }
  }
  if (*launched == steps) said = side_by_side;
  for (int i = 0; i < n && said; i++) source_tell(&runs[i]->program->sources, said);
done:
  return status;
}

/* The runs with at least `least` steps to launch; returns their number, and the most steps that all of them have. */
static int join(struct run runs[], int n, int64_t least, struct run *joined[], int64_t *common) {
  int n_joined = 0;
  *common = INT64_MAX;
  for (int i = 0; i < n; i++) {
    const int64_t left = runs[i].taken - runs[i].launched;
    if (left < least || !runs[i].graph) continue;
    joined[n_joined++] = &runs[i];
    if (left < *common) *common = left;
  }
  return n_joined;
}

/* The queued steps: as many as all runs have, side by side; then those of the longer runs, in a few groups; the others one
 * after another. */
static descent_status launch(const struct backend_device *device, struct run runs[], int n) {
  struct run *joined[BACKEND_MOST_JOBS];
  int64_t common, launched;
  descent_status status = DESCENT_OK;
  for (int group = 0; group < MOST_GROUPS; group++) {
    const int n_joined = join(runs, n, group == 0 ? 1 : LEAST_STEPS, joined, &common);
    if (n_joined < 2) break;
    TRY(launch_joint(device, joined, n_joined, common, &launched));
    for (int i = 0; i < n_joined; i++) joined[i]->launched += launched;
    if (launched < common) break; /* refused, or the first time */
  }
  for (int i = 0; i < n; i++)
    if (runs[i].launched < runs[i].taken) TRY(run_launch(&runs[i]));
done:
  return status;
}

static descent_status run_all(const struct backend_device *device, const struct backend_job *jobs, int64_t count) {
  struct run runs[BACKEND_MOST_JOBS];
  int n = 0;
  bool left = true;
  descent_status status = DESCENT_OK;
  for (int64_t i = 0; i < count; i++)
    if (jobs[i].n_steps > 0) TRY(run_begin(&runs[n++], jobs[i].program, jobs[i].range, jobs[i].steps, jobs[i].n_steps));
  while (left) {
    left = false;
    for (int i = 0; i < n; i++)
      if (runs[i].done < runs[i].n_steps) TRY(run_queue(&runs[i]));
    TRY(launch(device, runs, n));
    for (int i = 0; i < n; i++) {
      if (runs[i].taken) TRY(run_launched(&runs[i]));
      left = left || runs[i].done < runs[i].n_steps;
    }
  }
  for (int i = 0; i < n; i++) TRY(run_end(&runs[i]));
done:
  return status;
}

descent_status together_run(const struct backend_device *device, const struct backend_job *jobs, int64_t count) {
  profile_begin("members");
  const descent_status status = run_all(device, jobs, count);
  profile_end();
  return status;
}
