/* `descent train --ensemble`: members with different seeds, joined in one model. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/interrupt.h"
#include "cli/members.h"
#include "cli/results.h"
#include "report/text.h"

static const char *const command = training_command;

struct ensemble {
  const struct training *training;
  struct members m;
  descent_network **networks; /* (count); the first is the training's */
  int64_t *joined;            /* (n_joined) numbers of the members that the ensemble has */
  int64_t n_joined;
  descent_network *network;  /* the ensemble */
  descent_fit_result result; /* of its first member */
};

/* ---- members ----------------------------------------------------------------------------------------------------- */

/* As the first, with the weights of another seed. */
static int create_member(struct ensemble *e, int64_t k) {
  const struct train_values *v = &e->training->values;
  descent_status status = descent_network_clone(e->training->network, &e->networks[k]);
  if (status == DESCENT_OK && !v->weights)
    status = descent_network_initialise(e->networks[k], v->network.init, e->m.runs[k].values.training.train.seed);
  return status == DESCENT_OK ? EXIT_DONE : fail_status(command, status);
}

/* That of the members' shuffles; 0: the seed of each. So 0 itself cannot be shared: then it is that of member 1. */
static uint64_t shuffle_seed(const struct train_values *v) {
  const uint64_t seed = v->training.train.seed, given = v->training.train.shuffle_seed;
  if (given || strcmp(v->ensemble_shuffle, "shared") != 0) return given;
  return seed ? seed : descent_member_seed(seed, 1);
}

static int create_members(struct ensemble *e) {
  const struct train_values *v = &e->training->values;
  const uint64_t seed = v->training.train.seed;
  int code = EXIT_DONE;
  e->networks[0] = e->training->network;
  for (int64_t k = 0; k < e->m.count && code == EXIT_DONE; k++) {
    descent_train_options *options = &e->m.runs[k].values.training.train;
    options->seed = descent_member_seed(seed, k);
    options->shuffle_seed = shuffle_seed(v);
    if (k > 0) code = create_member(e, k);
    if (code == EXIT_DONE && run_set_provenance(e->training, e->networks[k], NULL, NULL) != DESCENT_OK)
      code = fail_status(command, DESCENT_ERROR_MEMORY);
    if (code == EXIT_DONE) code = members_set(&e->m, k, e->networks[k], &e->training->rows);
  }
  return code;
}

static void print_summary(const struct ensemble *e) {
  char text[256], how[512];
  members_describe(&e->m, text);
  snprintf(how, sizeof how, "ensemble    %s, rows shuffled %s", text,
           shuffle_seed(&e->training->values) ? "alike for all" : "for each");
  training_print_summary(e->training, how);
}

/* ---- the model --------------------------------------------------------------------------------------------------- */

/* Member k of those that were trained, some of which may be left out. The seed as text: JSON numbers are exact to 15
 * digits here, and seeds have up to 19. */
static bool add_member(cJSON *members, int64_t k, uint64_t seed, const descent_fit_result *result) {
  char digits[24];
  cJSON *member = cJSON_CreateObject();
  if (!cJSON_AddItemToArray(members, member)) return false;
  snprintf(digits, sizeof digits, "%" PRIu64, seed);
  return cJSON_AddNumberToObject(member, "member", (double)k) && cJSON_AddStringToObject(member, "seed", digits) &&
         cJSON_AddNumberToObject(member, "epochs", (double)result->epochs) &&
         cJSON_AddNumberToObject(member, "best_epoch", (double)result->best_epoch);
}

/* Seed, epochs and best epoch of each member that was joined, and what tells the order of the rows. */
static cJSON *describe_members(const struct ensemble *e) {
  cJSON *root = cJSON_CreateObject(), *members = cJSON_AddArrayToObject(root, "members");
  bool whole = members && cJSON_AddStringToObject(root, "shuffle", e->training->values.ensemble_shuffle);
  for (int64_t i = 0; whole && i < e->n_joined; i++) {
    const int64_t k = e->joined[i];
    whole = add_member(members, k, e->m.runs[k].values.training.train.seed, &e->m.members[k].result);
  }
  if (whole) return root;
  cJSON_Delete(root);
  return NULL;
}

/* Joins the members whose training has ended well, or where there are none, those with weights worth saving. */
static descent_status join(struct ensemble *e) {
  const bool any = e->m.status == DESCENT_OK;
  const descent_network **chosen = calloc((size_t)e->m.count, sizeof *chosen);
  descent_status status = chosen ? DESCENT_OK : DESCENT_ERROR_MEMORY;
  e->n_joined = 0;
  for (int64_t k = 0; chosen && k < e->m.count; k++) {
    const descent_member *member = &e->m.members[k];
    if (any ? member->status != DESCENT_OK : !run_kept(&e->m.runs[k], member->status, member->result.steps)) continue;
    if (e->n_joined == 0) e->result = member->result;
    chosen[e->n_joined] = e->networks[k];
    e->joined[e->n_joined++] = k;
  }
  if (e->n_joined && status == DESCENT_OK) status = descent_network_join(chosen, e->n_joined, &e->network);
  free(chosen);
  return status;
}

static descent_status save(struct ensemble *e) {
  cJSON *members = describe_members(e);
  descent_status status = members ? run_set_provenance(e->training, e->network, NULL, members) : DESCENT_ERROR_MEMORY;
  if (status == DESCENT_OK) status = descent_network_save(e->network, e->training->values.out);
  cJSON_Delete(members);
  return status;
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

/* Of the members that were joined: the most epochs, all steps, the time of all. */
static descent_fit_result total_of(const struct ensemble *e) {
  descent_fit_result total = e->result;
  total.steps = 0;
  total.seconds = e->m.seconds;
  for (int64_t i = 0; i < e->n_joined; i++) {
    const descent_fit_result *r = &e->m.members[e->joined[i]].result;
    total.steps += r->steps;
    if (r->epochs > total.epochs) total.epochs = r->epochs;
  }
  return total;
}

static int write_report(const struct ensemble *e, const struct measured *measured, const char *failure,
                        const struct measures_table *table) {
  struct curves_run runs[MEMBERS_DRAWN];
  char names[MEMBERS_DRAWN][32];
  const descent_fit_result total = total_of(e);
  int n = 0;
  for (; n < MEMBERS_DRAWN && n < e->m.count; n++) {
    snprintf(names[n], sizeof names[n], "member %d", n);
    runs[n] = (struct curves_run){names[n], &e->m.runs[n].records.history};
  }
  return results_write_report(e->training, &(struct results_report){.network = e->network,
                                                                    .result = &total,
                                                                    .measured = measured,
                                                                    .failure = failure,
                                                                    .warnings = e->m.runs[0].records.warnings,
                                                                    .runs = runs,
                                                                    .n_runs = n,
                                                                    .members = table});
}

enum { SUMMARY_ROWS = 4 };
/* The members one by one on the rows that the ensemble was measured on last, for the table: the ensemble, the mean of
 * the members, the lowest and the highest. */
static int measure_members(const struct ensemble *e, const struct measured *measured, struct measures_table *table) {
  const struct metrics_column *last = &measured->columns[measured->n - 1];
  int code = EXIT_DONE;
  if (!measures_open(table, last->title, e->n_joined + SUMMARY_ROWS)) return fail(command, EXIT_RUN, "out of memory");
  for (int64_t i = 0; i < e->n_joined && code == EXIT_DONE && !interrupt_signal(); i++) {
    const int64_t k = e->joined[i];
    descent_metrics metrics = {0};
    char name[32];
    snprintf(name, sizeof name, "member %" PRId64, k);
    code = results_measure_rows(e->training, e->networks[k], last->title, measured->last, &metrics);
    if (code == EXIT_DONE) measures_add(table, name, e->network, &metrics);
    descent_metrics_clear(&metrics);
  }
  if (code != EXIT_DONE || interrupt_signal()) return code;
  measures_add_statistic(table, "members' mean", MEASURES_MEAN, 0, e->n_joined);
  measures_add_statistic(table, "lowest", MEASURES_LOWEST, 0, e->n_joined);
  measures_add_statistic(table, "highest", MEASURES_HIGHEST, 0, e->n_joined);
  measures_add(table, "ensemble", e->network, last->metrics);
  return EXIT_DONE;
}

static int measure_and_print(const struct ensemble *e, struct measured *measured, struct measures_table *table) {
  int code = results_measure(e->training, e->network, measured);
  if (code != EXIT_DONE || interrupt_signal()) return code;
  report_metrics_print(stdout, e->network, measured->columns, measured->n);
  report_metrics_print_confusion(stdout, e->network, &measured->columns[measured->n - 1]);
  code = measure_members(e, measured, table);
  if (code != EXIT_DONE || interrupt_signal()) return code;
  putchar('\n');
  measures_print(stdout, table, SUMMARY_ROWS);
  return EXIT_DONE;
}

static void print_saved(const struct ensemble *e) {
  char text[TEXT_SIZE];
  text_print(stdout, "ensemble of %s network%s saved to %s\n", text_count(e->n_joined, text),
             e->n_joined == 1 ? "" : "s", e->training->values.out);
}

static int finish(struct ensemble *e) {
  struct measured measured = {0};
  struct measures_table table = {0};
  int code = EXIT_DONE;
  if (!interrupt_signal()) code = measure_and_print(e, &measured, &table);
  members_print_end(&e->m);
  print_saved(e);
  if (code == EXIT_DONE) code = results_judge(e->training, e->network, &e->result, &measured);
  results_print_verdict(&measured.verdict);
  const int reported = write_report(e, &measured, NULL, table.n_rows ? &table : NULL);
  measures_clear(&table);
  measured_clear(&measured);
  return code == EXIT_DONE ? reported : code;
}

/* Saves the ensemble of a training that has ended or, as far as it came, of one in which every member broke off. */
static int keep(struct ensemble *e) {
  const struct measured nothing = {0};
  const int code = e->m.status == DESCENT_OK ? EXIT_DONE : fail(command, exit_of(e->m.status), "%s", e->m.error);
  if (e->m.status == DESCENT_OK) members_report_failures(&e->m, "left out");
  descent_status status = join(e);
  if (status == DESCENT_OK && e->n_joined) status = save(e);
  if (status != DESCENT_OK) {
    const int unsaved = fail_status(command, status);
    return code == EXIT_DONE ? unsaved : code;
  }
  if (code == EXIT_DONE) return finish(e);
  if (e->n_joined) {
    text_print(stdout, "last good weights saved to %s\n", e->training->values.out);
    write_report(e, &nothing, e->m.error, NULL);
  }
  return code;
}

/* Only here, so that the record of one network has no options of several. */
static int record_options(struct training *t) {
  const bool whole = cJSON_AddNumberToObject(t->record, "ensemble", (double)t->values.ensemble) &&
                     cJSON_AddStringToObject(t->record, "ensemble-shuffle", t->values.ensemble_shuffle);
  return whole ? EXIT_DONE : fail(command, EXIT_RUN, "out of memory");
}

int ensemble_train(struct training *t) {
  struct ensemble e = {.training = t};
  const int64_t count = t->values.ensemble;
  int code = members_open(&e.m, t, "member", count);
  if (code == EXIT_DONE) code = record_options(t);
  e.networks = calloc((size_t)count, sizeof *e.networks);
  e.joined = calloc((size_t)count, sizeof *e.joined);
  if (code == EXIT_DONE && !(e.networks && e.joined)) code = fail(command, EXIT_RUN, "out of memory");
  if (code == EXIT_DONE) code = create_members(&e);
  if (code == EXIT_DONE) {
    print_summary(&e);
    members_fit(&e.m);
    code = members_end(&e.m, keep(&e));
  }
  members_close(&e.m);
  descent_network_free(e.network);
  for (int64_t k = 1; e.networks && k < count; k++) descent_network_free(e.networks[k]);
  free(e.networks);
  free(e.joined);
  return code;
}
