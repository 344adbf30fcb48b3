/* The library calls an option what its struct calls it; on the command line it is spelled otherwise. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const struct {
  const char *member, *command;
} words[] = {
    {"clip_norm", "--clip-norm"},
    {"learning_rate", "--lr"},
    {"weight_decay", "--weight-decay"},
    {"label_smoothing", "--label-smoothing"},
    {"batch_size", "--batch-size"},
    {"warmup_steps", "--warmup"},
    {"min_delta", "--min-delta"},
    {"top_k", "--top-k"},
    {"class_weights", "--class-weight"},
    {"balance_classes", "--class-weight balanced"},
    {"schedule_minimum", "--schedule's minimum"},
    {"schedule_gamma", "--schedule's factor"},
    {"schedule_every", "--schedule's epochs"},
    {"resume_with", "--resume-with"},
    {"checkpoint", "--checkpoint"},
    {"rollbacks", "--on-divergence rollback"},
};

static bool within_word(char c) { return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.' || c == '/'; }

void option_words(const char *text, char *out, size_t size) {
  size_t used = 0;
  for (const char *c = text; *c && used + 1 < size;) {
    const char *word = NULL;
    size_t length = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words && !word && (c == text || !within_word(c[-1])); i++) {
      length = strlen(words[i].member);
      if (strncmp(c, words[i].member, length) == 0 && !within_word(c[length])) word = words[i].command;
    }
    if (word) {
      const int wrote = snprintf(out + used, size - used, "%s", word);
      used += (size_t)wrote < size - used ? (size_t)wrote : size - used - 1;
      c += length;
    } else {
      out[used++] = *c++;
    }
  }
  out[used] = '\0';
}

void option_library_word(const char *name, size_t length, char *out, size_t size) {
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (strlen(words[i].command) == length + 2 && strncmp(words[i].command + 2, name, length) == 0) {
      snprintf(out, size, "%s", words[i].member);
      return;
    }
  snprintf(out, size, "%.*s", (int)length, name);
  for (char *c = out; *c; c++)
    if (*c == '-') *c = '_';
}

enum { WORD_LONGEST = 31, EDITS_MOST = 2 };

static int least(int a, int b) { return a < b ? a : b; }

/* Edits of a prefix into another, by the last of each: optimal string alignment. */
bool word_resembles(const char *word, size_t length, const char *known, int *edits) {
  const size_t n = strlen(known);
  int cost[WORD_LONGEST + 1][WORD_LONGEST + 1];
  if (length > WORD_LONGEST || n > WORD_LONGEST) return false;
  for (size_t i = 0; i <= length; i++) cost[i][0] = (int)i;
  for (size_t j = 0; j <= n; j++) cost[0][j] = (int)j;
  for (size_t i = 1; i <= length; i++)
    for (size_t j = 1; j <= n; j++) {
      const int changed = cost[i - 1][j - 1] + (word[i - 1] != known[j - 1]);
      cost[i][j] = least(changed, 1 + least(cost[i - 1][j], cost[i][j - 1]));
      if (i > 1 && j > 1 && word[i - 1] == known[j - 2] && word[i - 2] == known[j - 1])
        cost[i][j] = least(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  *edits = cost[length][n];
  return *edits <= EDITS_MOST && 2 * (size_t)*edits <= length;
}
